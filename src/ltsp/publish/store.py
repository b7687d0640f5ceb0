"""The images of a server: which there are, and the lock that each of them is changed under."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.publish import state as states
from ltsp.publish.disk_errors import described, told
from ltsp.publish.generation import Generation
from ltsp.publish.locked_image import Held
from ltsp.publish.paths import DIRECTORY_MODE, Places
from ltsp.publish.state import State
from ltsp.publish.switch import repair
from ltsp.settings import image_name
from ltsp.tree.name import printable

_PARENT_MODE = 0o755
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Store:
    base_dir: str
    tftp_dir: str

    def places(self, name: str) -> Places:
        """Raises UsageError where it cannot be an image's name."""
        return Places(image_name.checked(name), self.base_dir, self.tftp_dir)

    def names(self) -> list[str]:
        """Every name that has an exported image, a version, or a kernel of its own."""
        exported = files.entries(join(self.base_dir, "images"))
        found = {name.removesuffix(".old").removesuffix(".img") for name in exported if name.endswith((".img", ".old"))}
        found.update(files.entries(join(self.base_dir, "images", ".versions")))
        found.update(files.entries(join(self.tftp_dir, "ltsp")))
        return sorted(name for name in found if not image_name.fault(name) and self.state(name).exists)

    def state(self, name: str) -> State:
        """All there is to know of a name, read without its lock."""
        return states.read(self.places(name))

    def versions(self, name: str) -> tuple[Generation, ...]:
        """The complete ones, oldest first."""
        return self.state(name).generations

    def current(self, name: str) -> Generation | None:
        """What the menu boots."""
        return self.state(name).current

    @contextmanager
    def locked(self, name: str, wait: float = 0) -> Iterator[Held]:
        """The only way to change anything. What a killed run left behind is put right first.

        `wait` is in seconds, `math.inf` for ever.

        Raises LockHeld, which names the holder.
        """
        places = self.places(name)
        missing = [directory for directory in places.shared if not os.path.isdir(directory)]
        with ExitStack() as stack:
            stack.callback(_remove_unused, places, missing)
            with told("change", places):
                _check_place(places.base_dir, "base", name)
                _check_place(places.tftp_dir, "tftp", name)
            _lock(stack, places, wait)
            stack.callback(_remove_traces, places)
            with told("finish the last change of", places):
                repair(places)
            yield Held(places)


def _lock(stack: ExitStack, places: Places, wait: float) -> None:
    name = places.name
    with told("lock", places):
        for _ in range(_TRIES):
            files.make_directories(places.images, DIRECTORY_MODE)
            # Another run may take away the directory in between, where it had made it and has no use for it.
            with suppress(FileNotFoundError):
                try:
                    stack.enter_context(locks.exclusive(places.lock, wait))
                except locks.Taken as taken:
                    by = described(taken.holder) if taken.holder else "another process"
                    raise LockHeld(
                        f"{name} is being changed by {by}", "try again when it is done, or give --wait=SECONDS"
                    ) from None
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), places.images)


def _is_used(places: Places) -> bool:
    """Whether something is left under the name."""
    return any(map(os.path.lexists, (places.pointer, places.image, places.old)))


def _remove_unused(places: Places, directories: Sequence[str]) -> None:
    """Leave none of the directories that all images share, where this name made them and has no use for them."""
    if not _is_used(places):
        _remove_empty(directories)


def _remove_traces(places: Places) -> None:
    """Where nothing is left under the name, leave neither its directories nor its lock, which is held."""
    if _is_used(places):
        return
    _remove_empty([places.versions, places.boot])
    if not os.path.lexists(places.versions) and not os.path.lexists(places.boot):
        with suppress(OSError):
            os.unlink(places.lock)


def _remove_empty(directories: Sequence[str]) -> None:
    """Of these, the last one first."""
    for directory in reversed(directories):
        with suppress(OSError):
            os.rmdir(directory)


def _check_place(directory: str, which: str, name: str) -> None:
    """See that a directory of the server is there and can be written, before hours are spent on a build.

    It is made if just the last part is missing: more may be a disk that is not mounted.
    """
    if not os.path.isdir(directory) and not os.path.isdir(os.path.dirname(directory.rstrip("/"))):
        raise LtspError(
            f"no directory {printable(directory)}, where {name} is to be published",
            f"make it or mount it, or choose another one with ltsp --{which}-dir",
        )
    for _ in range(_TRIES):
        files.make_directories(directory.rstrip("/"), _PARENT_MODE)
        if os.access(directory, os.W_OK | os.X_OK):
            return
        if os.path.isdir(directory):
            read_only = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
            raise LtspError(
                f"cannot write to {printable(directory)}, where {name} is to be published"
                + (": it is mounted read-only" if read_only else ""),
                ("mount it for writing" if read_only else "run it as root")
                + f", or choose another one with ltsp --{which}-dir",
            )
