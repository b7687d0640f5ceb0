"""A regular file of a directory source: reopened below the root when it is read, and checked for changes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ltsp.errors import FileVanished, SourceError
from ltsp.host.root import NotRegularFile, RootDirectory
from ltsp.storage.blocks import write_sparse
from ltsp.tree.content import Content
from ltsp.tree.name import decode, printable, to_os

_CLOCK_TICK_NS = 20_000_000
"""Granularity of a file system's clock, in nanoseconds: kernels before 6.13 step it by 1 to 4 ms; with a margin."""
_READAHEAD_SIZE = 1 << 20
"""Size in bytes from which the kernel is asked to read ahead further."""

VANISHED_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ESTALE})
"""The path is gone or now leads to something else: a file instead of a directory, a link, a new mount."""


@dataclass(frozen=True, slots=True)
class HostDirectory:
    """A directory, shared by its files."""

    root: RootDirectory
    path: bytes
    """Relative to the root."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """The content of a host file, with its state at the time of the scan."""

    host_directory: HostDirectory
    name: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    stored_size: int

    def open(self) -> HostStream:
        try:
            descriptor, status = self.host_directory.root.open_file(self.host_directory.path, to_os(self.name))
        except NotRegularFile as error:
            raise FileVanished(f"{self._display_path()} is no longer a regular file") from error
        except OSError as error:
            if error.errno in VANISHED_ERRNOS:
                raise FileVanished(f"{self._display_path()} has disappeared since the scan") from error
            raise
        return HostStream(self, descriptor, status)

    def _display_path(self) -> str:
        return printable(f"{decode(self.host_directory.path)}/{self.name}")


class HostStream:
    """One reading of a file. It is consistent if the state after it is the same as before.

    A write updates ctime, but only with the granularity of the file system's clock, which for a local one follows the
    kernel's. So the state counts only if its ctime is more than a tick outside the reading (otherwise the "racy git"
    problem arises); for a file that was changed just now, the reading waits once.
    """

    __slots__ = ("_at", "_before", "_data_until", "_descriptor", "_sparse", "_start", "mtime", "size")

    def __init__(self, seen: HostFile, descriptor: int, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self._start = time.time_ns()
        if -_CLOCK_TICK_NS <= self._start - status.st_ctime_ns <= _CLOCK_TICK_NS:
            time.sleep((status.st_ctime_ns + _CLOCK_TICK_NS - self._start) / 1e9 + 0.001)
            status = os.fstat(descriptor)
            self._start = time.time_ns()
        self._before = status
        self._at = 0
        self._data_until = 0
        self.size = status.st_size
        self._sparse = status.st_blocks * 512 < self.size
        same = status.st_mtime_ns == seen.mtime_ns and self.size == seen.size and status.st_ino == seen.inode
        self.mtime: int | None = None if same else status.st_mtime_ns // 1_000_000_000
        if self.size >= _READAHEAD_SIZE:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    @property
    def path(self) -> str:
        """A path to this open file that stays valid if the file is renamed or removed."""
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
            # Not supported by the file system: treat all of it as data. lseek(2)
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
        if ctime < self._start - _CLOCK_TICK_NS:
            return True
        # A ctime in the future (the clock was set back) cannot come from a write during the reading either.
        return ctime > time.time_ns() + _CLOCK_TICK_NS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


_PIECE_SIZE = 1 << 20


@contextmanager
def spill_to_host(content: Content) -> Iterator[str]:
    """A path for the content: that of the file itself, or of an unnamed copy. Raises SourceError if it does not fit."""
    if isinstance(content, HostFile):
        with content.open() as stream:
            yield stream.path
        return
    from ltsp.disk.image import make_scratch_file  # noqa: PLC0415 -- a part of its own, which files of the host do without

    with make_scratch_file() as copy:
        try:
            _copy(content, copy.fileno())
        except OSError as error:
            raise SourceError(
                f"cannot copy a file of the source to a temporary file: {error.strerror}",
                "set TMPDIR to a directory with enough free space",
            ) from error
        yield f"/proc/self/fd/{copy.fileno()}"


def _copy(content: Content, target: int) -> None:
    """Copy the content, with holes for ranges of zeros."""
    with content.open() as stream:
        at = 0
        while at < stream.size:
            if hole := min(stream.hole_size(), stream.size - at):
                stream.skip(hole)
                at += hole
                continue
            piece = stream.read(min(stream.size - at, _PIECE_SIZE))
            if not piece:
                break
            write_sparse(target, piece, at)
            at += len(piece)
        os.ftruncate(target, stream.size)
