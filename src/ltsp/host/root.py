"""Opens everything below a descriptor of a source's root: no path in the source leads out of it.

A path string of the source is never passed to an ordinary system call: openat2(2) resolves it inside the root. Only
regular files and directories are opened for reading, because opening anything else can have effects: a device may
reset, a FIFO may block or wake a program.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Final, Self

from ltsp.host import system_call
from ltsp.host.openat2_fallback import open_stepwise
from ltsp.host.system_call import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)

_HANDLE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTING_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READING_FLAGS = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC

_RESOLVE_STRICTLY = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_RESOLVE_LIKE_CHROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

_PATH_MAX = 4096
"""Bytes of a path in one call, including the final NUL. limits.h"""
_MAX_CACHED_DIRECTORIES = 32
"""Directories kept open: files come in the order of their paths, so a few recent ones and their ancestors suffice."""
_MAX_TRIES = 256
"""openat2 fails with EAGAIN after a concurrent rename or mount; so many in a row are not a coincidence."""


class NotRegularFile(OSError):
    """The name does not belong to a regular file."""


class FileDescriptor:
    """A file descriptor that closes with its last reference, so that a cache can drop it while it is in use."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    __del__ = close


class RootDirectory:
    """The root of a source. Paths are bytes and relative to it.

    Directories are opened without following links or crossing mounts.
    """

    __slots__ = ("_directories", "_handle", "_lock", "_openat")

    def __init__(self, descriptor: int) -> None:
        """Take ownership of a directory descriptor, which may be O_PATH."""
        self._handle = FileDescriptor(descriptor)
        self._directories: dict[bytes, FileDescriptor] = {}
        self._lock = Lock()
        self._openat = _openat2 if _has_openat2(descriptor) else open_stepwise

    @classmethod
    def open(cls, path: bytes) -> Self:
        """The directory at a trusted path of the host, with links followed."""
        return cls(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    @property
    def descriptor(self) -> int:
        """O_PATH; owned by this object."""
        return self._handle.number

    def path(self) -> bytes:
        """The path of the root according to the kernel, for people and for the mount table."""
        return os.readlink(b"/proc/self/fd/%d" % self.descriptor)

    def open_directory(self, path: bytes) -> FileDescriptor:
        """A directory, open for listing; kept open for a while. No link is followed and no mount crossed.

        Raises OSError: EXDEV if the path is a mount point or leads through one, ELOOP or ENOTDIR if it is not a
        directory, ENOENT, EACCES.
        """
        found = self._directories.get(path)
        if found is None:
            found = FileDescriptor(self._open_uncached(path))
            with self._lock:
                if len(self._directories) >= _MAX_CACHED_DIRECTORIES:
                    del self._directories[next(iter(self._directories))]
                self._directories[path] = found
        return found

    def open_file(self, directory: bytes, name: str | bytes) -> tuple[int, os.stat_result]:
        """A regular file, open for reading, and its state just before. No link is followed.

        Raises NotRegularFile, or OSError as `open_directory` and open(2) do.
        """
        handle = os.open(name, _HANDLE_FLAGS, dir_fd=self.open_directory(directory).number)
        try:
            status = os.fstat(handle)
            return _reopen(handle, status), status
        finally:
            os.close(handle)

    def open_mount_point(self, path: bytes) -> int:
        """An O_PATH descriptor of the mount at a path; links are not followed, but mounts are crossed."""
        return self._openat(self.descriptor, path, _HANDLE_FLAGS | os.O_DIRECTORY, _RESOLVE_STRICTLY & ~RESOLVE_NO_XDEV)

    def open_handle(self, path: bytes) -> int:
        """An O_PATH descriptor of a path, with links resolved inside the root, as in a chroot."""
        if len(path) >= _PATH_MAX:
            return open_stepwise(self.descriptor, path, os.O_PATH | os.O_CLOEXEC, _RESOLVE_LIKE_CHROOT)
        return self._openat(self.descriptor, path or b".", os.O_PATH | os.O_CLOEXEC, _RESOLVE_LIKE_CHROOT)

    def open_file_following_links(self, path: bytes) -> int:
        """The regular file that a path leads to, with links resolved inside the root; open for reading."""
        handle = self.open_handle(path)
        try:
            return _reopen(handle, os.fstat(handle))
        finally:
            os.close(handle)

    def close(self) -> None:
        self._directories.clear()
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_uncached(self, path: bytes) -> int:
        parent, _, name = path.rpartition(b"/")
        cached_parent = self._directories.get(parent)
        if cached_parent is not None and name:
            return self._open_listing(cached_parent.number, name)
        if len(path) < _PATH_MAX:
            return self._open_listing(self.descriptor, path or b".")
        ancestor = FileDescriptor(os.dup(self.descriptor))
        while len(path) >= _PATH_MAX:
            cut = path.rindex(b"/", 0, _PATH_MAX)
            ancestor = FileDescriptor(
                self._openat(ancestor.number, path[:cut], _HANDLE_FLAGS | os.O_DIRECTORY, _RESOLVE_STRICTLY)
            )
            path = path[cut + 1 :]
        return self._open_listing(ancestor.number, path)

    def _open_listing(self, directory: int, path: bytes) -> int:
        try:
            return self._openat(directory, path, _LISTING_FLAGS | os.O_NOATIME, _RESOLVE_STRICTLY)
        except PermissionError as error:
            # Only the owner and root may use O_NOATIME. open(2)
            if error.errno != errno.EPERM:
                raise
            return self._openat(directory, path, _LISTING_FLAGS, _RESOLVE_STRICTLY)


def _reopen(handle: int, status: os.stat_result) -> int:
    """The regular file behind an O_PATH handle, open for reading."""
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFile(errno.EINVAL, "not a regular file")
    path = f"/proc/self/fd/{handle}"
    try:
        return os.open(path, _READING_FLAGS | os.O_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(path, _READING_FLAGS)


_open_hows: dict[tuple[int, int], system_call.OpenHow] = {}


def _openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    how = _open_hows.get((flags, resolve))
    if how is None:
        how = _open_hows[flags, resolve] = system_call.OpenHow(flags, 0, resolve)
    for _ in range(_MAX_TRIES):
        try:
            return system_call.openat2(directory, path, how)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _has_openat2(directory: int) -> bool:
    try:
        os.close(_openat2(directory, b".", os.O_PATH | os.O_CLOEXEC, RESOLVE_IN_ROOT))
    except OSError as error:
        return not system_call.is_unavailable(error)
    return True


CHROOT_MARKS: Final = (b"usr", b"proc")
"""Directories of which one has to exist: copies may lack empty ones, and minimal systems lack /usr."""


def is_chroot(path: bytes) -> bool:
    """Whether it has one of the marks. An incomplete system is refused later, with what is missing."""
    return any(leads_to(path, mark, stat.S_ISDIR) for mark in CHROOT_MARKS)


def leads_to(path: bytes, path_inside: bytes, has_type: Callable[[int], bool]) -> bool:
    """Whether the path leads to something of this kind, with links resolved inside the directory."""
    try:
        with RootDirectory.open(path) as root:
            handle = root.open_handle(path_inside)
            try:
                return has_type(os.fstat(handle).st_mode)
            finally:
                os.close(handle)
    except OSError:
        return False
