"""A regular file of a directory source: found again below the root when it is read, and watched while it is."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ltsp.errors import FileVanished
from ltsp.host.root import NotRegularFile, RootDirectory
from ltsp.tree.name import decode, printable, to_os

_TICK = 20_000_000
"""Nanoseconds that a file system's clock may stand still: kernels before 6.13 step it by 1 to 4 ms, with a margin."""
_LARGE = 1 << 20
"""Bytes from which the kernel is told to read ahead further."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ESTALE})
"""Another thing, or nothing, stands at the path: a file for a directory, a link, a new mount."""


@dataclass(frozen=True, slots=True)
class HostDirectory:
    """A directory, which its files share."""

    root: RootDirectory
    path: bytes
    """Relative to the root."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """Content of a file of the host, as the scan saw it."""

    place: HostDirectory
    name: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    stored: int

    def open(self) -> HostStream:
        try:
            descriptor, status = self.place.root.file(self.place.path, to_os(self.name))
        except NotRegularFile as error:
            raise FileVanished(f"{self._display_path()} is no regular file any more") from error
        except OSError as error:
            if error.errno in GONE:
                raise FileVanished(f"{self._display_path()} is gone since the scan") from error
            raise
        return HostStream(self, descriptor, status)

    def _display_path(self) -> str:
        return printable(f"{decode(self.place.path)}/{self.name}")


class HostStream:
    """One reading of a file. It is consistent when the state is the same after it as before.

    A write leaves its time in ctime, but only to the tick of the file system's clock, which for a local one follows
    the kernel's. So the state counts only if its ctime lies more than a tick outside the reading (the fault is known
    as "racy git" otherwise); a file that was changed just now is waited for, once.
    """

    __slots__ = ("_at", "_before", "_data_until", "_descriptor", "_sparse", "_start", "mtime", "size")

    def __init__(self, seen: HostFile, descriptor: int, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self._start = time.time_ns()
        if -_TICK <= self._start - status.st_ctime_ns <= _TICK:
            time.sleep((status.st_ctime_ns + _TICK - self._start) / 1e9 + 0.001)
            status = os.fstat(descriptor)
            self._start = time.time_ns()
        self._before = status
        self._at = 0
        self._data_until = 0
        self.size = status.st_size
        self._sparse = status.st_blocks * 512 < self.size
        same = status.st_mtime_ns == seen.mtime_ns and self.size == seen.size and status.st_ino == seen.inode
        self.mtime: int | None = None if same else status.st_mtime_ns // 1_000_000_000
        if self.size >= _LARGE:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    @property
    def path(self) -> str:
        """Leads to this open file, whatever becomes of its name."""
        return f"/proc/self/fd/{self._descriptor}"

    def read(self, size: int) -> bytes:
        piece = os.pread(self._descriptor, size, self._at)
        self._at += len(piece)
        if len(piece) == size or not piece:
            return piece
        pieces = [piece]
        missing = size - len(piece)
        while missing and (piece := os.pread(self._descriptor, missing, self._at)):
            pieces.append(piece)
            self._at += len(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def hole_size(self) -> int:
        if not self._sparse or self._at < self._data_until:
            return 0
        try:
            data = os.lseek(self._descriptor, self._at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # No data from here to the end, which may have moved.
                return max(0, self.size - self._at)
            # A file system that does not tell: all of it is data. lseek(2)
            self._sparse = False
            return 0
        if data > self._at:
            return data - self._at
        try:
            self._data_until = os.lseek(self._descriptor, self._at, os.SEEK_HOLE)
        except OSError:
            # squashfs of Linux 6.17 and later fails in a file that ends in a fragment, before one with setuid.
            self._sparse = False
        return 0

    def skip(self, size: int) -> None:
        self._at += size

    def is_consistent(self) -> bool:
        before, after = self._before, os.fstat(self._descriptor)
        ctime = after.st_ctime_ns
        if ctime != before.st_ctime_ns or after.st_mtime_ns != before.st_mtime_ns or after.st_size != before.st_size:
            return False
        if ctime < self._start - _TICK:
            return True
        # A time in the future (the clock went back) cannot be given to a write of today either.
        return ctime > time.time_ns() + _TICK

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
