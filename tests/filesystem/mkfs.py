"""File systems for the tests: created with their own tools, and filled and listed through the kernel.

What needs a mount runs as a program in a mount namespace of its own, so that a kill leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from corpus import extents, tree_snapshot
from ltsp.tree.tree import Tree

TESTS = Path(__file__).parent.parent


def make_file_system(image: Path, size: int, *command: str) -> Path:
    """An image of `size` bytes on which a mkfs was run; the image is the command's last argument."""
    with image.open("wb") as file:
        file.truncate(size)
    done = subprocess.run([*command, image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return image


def filled(image: Path, source: Path, options: str = "", then: str = "nothing") -> tree_snapshot.Snapshot:
    """Copy a directory into the image through a mount, do what is named, and tell what the kernel shows then.

    What the file system cannot hold is not there afterwards: a long link, an attribute too many.
    """
    return _in_namespace("fill", image, options, str(source), then)


def shown(image: Path, options: str = "") -> tree_snapshot.Snapshot:
    """What the kernel shows; it may change the image, as any mount of it would."""
    return _in_namespace("show", image, options)


def differences(expected: tree_snapshot.Snapshot, tree: Tree) -> list[str]:
    """In words; links count only inside the tree. Contents are also fetched from where they are said to lie."""

    def counted(snapshot: tree_snapshot.Snapshot) -> tree_snapshot.Snapshot:
        return {path: tree_snapshot.counted(entry) for path, entry in snapshot.items()}

    moved = [f"{path} lies elsewhere" for path in extents.moved(tree)]
    return tree_snapshot.differences(counted(expected), counted(tree_snapshot.of_tree(tree))) + moved


def is_refused_by_kernel(image: Path, name: str, options: str = "") -> bool:
    """Whether reading a file of it, with its attributes, ends in EIO, or in what ext4 and xfs have for damage."""
    found: object = _in_namespace("read", image, options, name)
    return found in ({"errno": errno.EIO}, {"errno": errno.EBADMSG}, {"errno": errno.EUCLEAN})


def _in_namespace(*arguments: object) -> tree_snapshot.Snapshot:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    call = ["unshare", "--mount", "--propagation=private", sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(call, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found: tree_snapshot.Snapshot = pickle.loads(done.stdout)
    return found


def _mount(image: str, point: Path, options: str) -> None:
    every = ",".join(filter(None, ("loop", options)))
    subprocess.run(["mount", "-o", every, image, point], check=True)


def _copy(source: Path, point: Path) -> None:
    call = ["cp", "-a", "--sparse=always", f"{source}/.", str(point)]
    subprocess.run(call, check=False, stderr=subprocess.DEVNULL)


def _nothing(_image: str, _point: Path) -> None:
    pass


def _pull_the_plug(image: str, point: Path) -> None:
    """Copy the image while a log holds changes that are nowhere else: what a disk has after a power cut."""
    os.sync()
    for number in range(200):
        (point / f"new-{number}").write_bytes(b"new" * number * 10)
    shutil.rmtree(point / "crowd")
    os.sync()
    for number in range(0, 200, 2):
        (point / f"new-{number}").unlink()
    for number in range(100):
        (point / f"directory-{number}" / "inside").mkdir(parents=True)
        # Every block of it begins with the magic number of a journal, which the journal then has to escape.
        (point / f"directory-{number}" / "magic").write_bytes(b"\xc0\x3b\x39\x98" * 1024)
    for last in (point / "directory-99" / "magic", point):
        descriptor = os.open(last, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    subprocess.run(["cp", "--sparse=always", image, f"{image}.cut"], check=True)


def _allocated_and_punched(_image: str, point: Path) -> None:
    """Extents that were never written, and holes between extents."""
    data = bytes(range(1, 256)) * 4096
    with (point / "allocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        file.seek(300_000)
        file.write(data[:70_000])
    with (point / "pieces").open("wb") as file:
        for number in range(400):
            file.seek(number * 3 * 4096)
            file.write(data[:4096])
            if not number % 50:
                os.fsync(file.fileno())
    (point / "end").write_bytes(data)
    os.truncate(point / "end", 5000)
    os.truncate(point / "end", 900_000)


def _commit_fast(image: str, point: Path) -> None:
    """Copy the image when single files were synced, of which a journal may tell in short."""
    os.sync()
    for number in range(3):
        with (point / f"synced-{number}").open("wb") as file:
            file.write(b"synced" * 500)
            file.flush()
            os.fsync(file.fileno())
    subprocess.run(["cp", "--sparse=always", image, f"{image}.cut"], check=True)


def _many_attributes(_image: str, point: Path) -> None:
    """As many, and as large, as fit."""
    for name, count, size in (("many", 1000, 30), ("large", 3, 65536), ("larger-than-a-block", 4, 6000)):
        path = point / name
        path.write_text(name)
        try:
            for number in range(count):
                os.setxattr(path, f"user.{'n' * (number % 200)}{number}", bytes([number % 251]) * size)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.E2BIG}:
                raise
    for number in range(1, 1000, 2):
        with contextlib.suppress(OSError):
            os.removexattr(point / "many", f"user.{'n' * (number % 200)}{number}")


def _turn_the_log_over(_image: str, point: Path) -> None:
    """More changes than a small log holds at once, so that it is written from its start again; it holds long links."""
    for round_ in range(9):
        for number in range(1500):
            (point / f"{round_}-{number:0200}").symlink_to("target/" * 140)
        os.sync()
        for number in range(1500):
            (point / f"{round_}-{number:0200}").unlink()
        os.sync()


def _cloned(_image: str, point: Path) -> None:
    """Files that share extents."""
    data = bytes(range(1, 256)) * 4096
    (point / "original").write_bytes(data)
    for number in range(3):
        subprocess.run(["cp", "--reflink=always", point / "original", point / f"clone-{number}"], check=True)
    with (point / "clone-1").open("r+b") as file:
        file.seek(400_000)
        file.write(b"changed" * 2000)


def _subvolumes(_image: str, point: Path) -> None:
    """As distributions lay them out, one in another, a snapshot, one that was removed, and a default."""

    def btrfs(*arguments: object) -> None:
        subprocess.run(["btrfs", "-q", "subvolume", *map(str, arguments)], check=True)

    for name in ("@", "@home", "directory/@/nested", "@/var/lib/machines", "@/removed"):
        (point / name).parent.mkdir(parents=True, exist_ok=True)
        btrfs("create", point / name)
        (point / name / "name").write_text(name)
    btrfs("snapshot", "-r", point / "@", point / "@" / "snapshot")
    btrfs("delete", point / "@/removed")
    btrfs("set-default", point / "@")


def _synced_file(image: str, point: Path) -> None:
    """Copy the image when a file was synced: its changes are in the log of trees and nowhere else."""
    (point / "before").write_text("before")
    os.sync()
    with (point / "after").open("w") as file:
        file.write("after")
        file.flush()
        os.fsync(file.fileno())
    subprocess.run(["cp", "--sparse=always", image, f"{image}.cut"], check=True)


_AFTERWARDS: dict[str, Callable[[str, Path], None]] = {
    "nothing": _nothing,
    "pull-the-plug": _pull_the_plug,
    "allocated": _allocated_and_punched,
    "many-attributes": _many_attributes,
    "commit-fast": _commit_fast,
    "log-turned-over": _turn_the_log_over,
    "cloned": _cloned,
    "subvolumes": _subvolumes,
    "synced-file": _synced_file,
}


def _errno_of_reading(path: Path) -> dict[str, int]:
    try:
        path.read_bytes()
        for name in os.listxattr(path):
            os.getxattr(path, name)
    except OSError as error:
        return {"errno": error.errno or 0}
    return {}


def main(what: str, image: str, options: str, more: Sequence[str]) -> None:
    point = Path(f"{image}.point")
    point.mkdir(exist_ok=True)
    _mount(image, point, options)
    if what == "fill":
        source, then = more
        _copy(Path(source), point)
        _AFTERWARDS[then](image, point)
    found = _errno_of_reading(point / more[0]) if what == "read" else tree_snapshot.directory(point)
    pickle.dump(found, sys.stdout.buffer)
    sys.stdout.flush()
    subprocess.run(["umount", point], check=True)


if __name__ == "__main__":
    _, _what, _image, _options, *_more = sys.argv
    main(_what, _image, _options, _more)
