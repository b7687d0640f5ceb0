"""Images and kernels that say which version they belong to, so that a reader can tell whether what it finds fits.

Run as a program it does one operation on a store, for tests that kill it, inject errors or cut the power.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.gc import Retention
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.manifest import KernelFacts, SourceFacts
from ltsp.publish.stage import StagedVersion, VersionContents
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.tree.content import Bytes

NAME = "lab"
_REPEATS = 5000


def image(label: str) -> bytes:
    """Some pages of data, so that a torn one shows."""
    return b"hsqs" + f"image {label}\n".encode() * _REPEATS


def kernel(label: str) -> bytes:
    return f"kernel {label}\n".encode() * 100


def initrd(label: str) -> bytes:
    return f"initrd {label}\n".encode() * 100


def contents(label: str, source: str = "/") -> VersionContents:
    files = {"vmlinuz": Bytes(kernel(label)), "initrd.img": Bytes(initrd(label))}
    return VersionContents(
        SourceFacts(source, "directory"), KernelFacts(f"boot/vmlinuz-{label}", label), files, codec="gzip"
    )


def publish(store: Store, label: str, source: str = "/", **options: object) -> PublishedVersion | Unchanged:
    with store.locked(NAME) as locked:
        return publish_locked(locked, label, source, **options)


def publish_locked(
    locked: LockedImage, label: str, source: str = "/", **options: object
) -> PublishedVersion | Unchanged:
    with locked.stage_image(len(image(label))) as stage:
        with translate_os_errors("write an image of", NAME):
            stage.image.write(image(label))
        return stage.publish(contents(label, source), **options)


def stage_locked(locked: LockedImage, label: str, source: str = "/") -> StagedVersion | Unchanged:
    with locked.stage_image(len(image(label))) as stage:
        with translate_os_errors("write an image of", NAME):
            stage.image.write(image(label))
        return stage.stage_version(contents(label, source))


@dataclass(frozen=True)
class ServedState:
    """What clients would get, by label; None if there is nothing."""

    menu: tuple[str, str] | None
    """Image and kernel that the pointer leads to, if it leads anywhere."""
    image: str | None
    """NAME.img."""
    old: str | None
    kernel: str | None
    """The link that older menus name."""


class Torn(AssertionError):
    """A client would get an incomplete file, or none although a name promises one."""


def read_served_state(store: Store) -> ServedState:
    """Read as clients do: through the pointer's own words, and through the names of older menus."""
    paths = store.paths(NAME)
    menu = None
    if os.path.lexists(paths.pointer):
        script = _read(paths.pointer).decode()
        kernel_name = re.search(r"^kernel (\S+)", script, re.MULTILINE)
        image_name = re.search(r"^set image (\S+)", script, re.MULTILINE)
        if kernel_name and image_name and script.endswith("boot\n"):
            path = os.path.join(paths.base_dir, image_name[1].removeprefix("../../"))
            menu = (label_of(path, image), label_of(os.path.join(paths.boot, kernel_name[1]), kernel))
        elif "has no kernel" not in script or not script.endswith("exit 1\n"):
            raise Torn(script)
    link = os.path.join(paths.boot, "vmlinuz")
    return ServedState(
        menu,
        label_of(paths.image, image) if os.path.lexists(paths.image) else None,
        label_of(paths.old, image) if os.path.lexists(paths.old) else None,
        label_of(link, kernel) if os.path.exists(link) else None,
    )


def label_of(path: str, expected: object) -> str:
    data = _read(path)
    match = re.match(rb"(?:hsqs)?(?:image|kernel) (\S+)\n", data)
    if match is None or data != expected(match[1].decode()):
        raise Torn(f"{path}: {len(data)} bytes")
    return match[1].decode()


def leftovers(store: Store) -> list[str]:
    """Files that no finished operation leaves: temporary ones, and versions that are not complete."""
    paths = store.paths(NAME)
    found = []
    for top in (store.base_dir, store.tftp_dir):
        for directory, _, names in os.walk(top):
            found += [os.path.join(directory, name) for name in names if name.endswith(".new")]
    complete = {each.id for each in store.versions(NAME)}
    for directory in (paths.versions, paths.boot):
        if os.path.isdir(directory):
            found += [
                each.path
                for each in os.scandir(directory)
                if each.is_dir(follow_symlinks=False) and each.name not in complete
            ]
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise Torn(f"{path} is missing") from error


def operate(store: Store, operation: str, label: str) -> None:
    everything_goes = Retention(versions=1, days=0)
    match operation:
        case "publish":
            publish(store, label)
        case "wait and publish":
            with store.locked(NAME, wait=60) as locked:
                publish_locked(locked, label)
        case "replace":
            publish(store, label, backup=False)
        case "move":
            publish(store, label, "/new")
        case "rotate":
            publish(store, label, retention=everything_goes)
        case _:
            with store.locked(NAME) as locked:
                match operation:
                    case "revert":
                        locked.revert()
                    case "stage":
                        stage_locked(locked, label)
                    case "trial":
                        staged = stage_locked(locked, label)
                        assert isinstance(staged, StagedVersion)
                        locked.publish_staged(staged)
                    case "kernel":
                        locked.publish_kernel(contents(label))
                    case "use":
                        locked.use(label)
                    case "remove all":
                        locked.remove_all()
                    case "prune":
                        locked.prune(1)
                    case "repair":
                        pass
                    case _:
                        raise AssertionError(operation)


def main() -> None:
    base_dir, tftp_dir, operation, label = sys.argv[1:]
    try:
        if operation == "hold":
            with Store(base_dir, tftp_dir).locked(NAME, float(label)):
                os.write(1, b"held\n")
                sys.stdin.read()
            return
        operate(Store(base_dir, tftp_dir), operation, label)
    except LtspError as error:
        sys.stderr.write(f"ltsp: {error}\n")
        sys.exit(error.exit_status)
    os.write(1, b"published\n")


if __name__ == "__main__":
    main()
