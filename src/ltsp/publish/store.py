"""The images of a server, and the lock under which each of them is changed."""

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
from ltsp.publish.disk_errors import describe_user, translate_os_errors
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.paths import DIRECTORY_MODE, ImagePaths
from ltsp.publish.state import ImageState
from ltsp.publish.switch import repair
from ltsp.publish.version import Version
from ltsp.settings import naming
from ltsp.tree.name import printable

_PARENT_MODE = 0o755
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Store:
    base_dir: str
    tftp_dir: str

    def paths(self, name: str) -> ImagePaths:
        """Raises UsageError if the name is not a valid image name."""
        return ImagePaths(naming.check_name(name), self.base_dir, self.tftp_dir)

    def names(self) -> list[str]:
        """Every name that has an exported image, a version, or a kernel of its own."""
        exported = files.list_names(join(self.base_dir, "images"))
        found = {name.removesuffix(".old").removesuffix(".img") for name in exported if name.endswith((".img", ".old"))}
        found.update(files.list_names(join(self.base_dir, "images", ".versions")))
        found.update(files.list_names(join(self.tftp_dir, "ltsp")))
        return sorted(name for name in found if not naming.fault(name) and self.state(name).exists)

    def state(self, name: str) -> ImageState:
        """The state of an image, read without its lock."""
        return states.read_state(self.paths(name))

    def versions(self, name: str) -> tuple[Version, ...]:
        """The complete ones, oldest first."""
        return self.state(name).versions

    def current(self, name: str) -> Version | None:
        """The version that the menu boots."""
        return self.state(name).current

    @contextmanager
    def locked(self, name: str, wait: float = 0) -> Iterator[LockedImage]:
        """Lock an image, which is the only way to change it, and repair what a killed run left behind.

        `wait` is in seconds; `math.inf` waits forever.

        Raises LockHeld, which names the holder.
        """
        paths = self.paths(name)
        missing = [directory for directory in paths.shared if not os.path.isdir(directory)]
        with ExitStack() as stack:
            stack.callback(_remove_unused, paths, missing)
            with translate_os_errors("change", paths):
                _check_directory(paths.base_dir, "base", name)
                _check_directory(paths.tftp_dir, "tftp", name)
            _lock_image(stack, paths, wait)
            stack.callback(_remove_empty_directories, paths)
            with translate_os_errors("finish the last change of", paths):
                repair(paths)
            yield LockedImage(paths)


def _lock_image(stack: ExitStack, paths: ImagePaths, wait: float) -> None:
    name = paths.name
    with translate_os_errors("lock", paths):
        for _ in range(_TRIES):
            files.make_directories(paths.images, DIRECTORY_MODE)
            # In between, another run may remove the directory that it had created and does not need.
            with suppress(FileNotFoundError):
                try:
                    stack.enter_context(locks.hold_exclusive(paths.lock, wait))
                except locks.LockBusy as taken:
                    by = describe_user(taken.holder) if taken.holder else "another process"
                    raise LockHeld(
                        f"{name} is being changed by {by}", "try again when it is done, or use --wait=SECONDS"
                    ) from None
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), paths.images)


def _is_used(paths: ImagePaths) -> bool:
    """Whether anything of the image is left."""
    return any(map(os.path.lexists, (paths.pointer, paths.image, paths.old)))


def _remove_unused(paths: ImagePaths, directories: Sequence[str]) -> None:
    """Remove the shared directories that were created for this image, if nothing of it is left."""
    if not _is_used(paths):
        _remove_empty(directories)


def _remove_empty_directories(paths: ImagePaths) -> None:
    """If nothing of the image is left, remove its directories and its lock, which is held."""
    if _is_used(paths):
        return
    _remove_empty([paths.versions, paths.boot])
    if not os.path.lexists(paths.versions) and not os.path.lexists(paths.boot):
        with suppress(OSError):
            os.unlink(paths.lock)


def _remove_empty(directories: Sequence[str]) -> None:
    """Remove the empty ones, last first."""
    for directory in reversed(directories):
        with suppress(OSError):
            os.rmdir(directory)


def _check_directory(directory: str, which: str, name: str) -> None:
    """Check that a directory of the server exists and is writable, before hours are spent on a build.

    It is created if only its last component is missing; more may be a disk that is not mounted.
    """
    if not os.path.isdir(directory) and not os.path.isdir(os.path.dirname(directory.rstrip("/"))):
        raise LtspError(
            f"cannot publish {name}: no directory {printable(directory)}",
            f"create or mount it, or choose another one with ltsp --{which}-dir",
        )
    for _ in range(_TRIES):
        files.make_directories(directory.rstrip("/"), _PARENT_MODE)
        if os.access(directory, os.W_OK | os.X_OK):
            return
        if os.path.isdir(directory):
            read_only = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
            raise LtspError(
                f"cannot publish {name}: {printable(directory)} is "
                + ("mounted read-only" if read_only else "not writable"),
                ("mount it writable" if read_only else "run as root")
                + f", or choose another one with ltsp --{which}-dir",
            )
