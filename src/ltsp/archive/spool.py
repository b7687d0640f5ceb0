"""Spool a stream that can be read only once to an unnamed temporary file, for as long as its tree is in use.

It vanishes even if the process is killed. Runs of zeros take no space.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import LtspError
from ltsp.storage.blocks import Blocks, FileBlocks, MemoryBlocks, free_bytes, write_sparse
from ltsp.storage.extents import Extent
from ltsp.tree.name import printable

_RESERVED_SPACE = 64 << 20
"""Bytes to leave free on the file system."""
_SPACE_CHECK_INTERVAL = 32 << 20
"""Bytes written between two checks of the free space."""


def open_unnamed_file(directory: str) -> BinaryIO:
    return TemporaryFile(dir=directory)


class Spool:
    """The temporary file; created when the first bytes arrive."""

    def __init__(
        self,
        directory: str,
        make_file: Callable[[str], BinaryIO] = open_unnamed_file,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`make_file` creates a file in that directory; `heartbeat` is called for each piece written or read."""
        self._directory = directory
        self._make_file = make_file
        self._working = heartbeat
        self._file: BinaryIO | None = None
        self._blocks: FileBlocks | None = None
        self._last_checked_size = 0
        self.size = 0

    def append(self, data: bytes | memoryview) -> None:
        """Raises LtspError if there is not enough space."""
        self._working()
        try:
            if self._file is None:
                self._file = self._make_file(self._directory)
                self._check_free_space(self._file.fileno())
            write_sparse(self._file.fileno(), data, self.size)
            self.size += len(data)
            if self.size - self._last_checked_size > _SPACE_CHECK_INTERVAL:
                self._check_free_space(self._file.fileno())
        except OSError as error:
            reason = "not enough free space" if error.errno == errno.ENOSPC else error.strerror
            raise LtspError(
                f"cannot store the unpacked data in {printable(self._directory)}: {reason}",
                "free some space, or set TMPDIR to a directory with enough",
            ) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes, fewer at the end."""
        self._working()
        return self._stored().read_at(offset, size)

    def locate(self, offset: int, size: int) -> Extent:
        return Extent(size, self._stored(), offset)

    def _stored(self) -> Blocks:
        """The file, extended to its size: zeros at the end were not written."""
        if self._file is None:
            return MemoryBlocks(b"")
        descriptor = self._file.fileno()
        if self._blocks is None or self._blocks.size < self.size:
            if os.fstat(descriptor).st_size < self.size:
                os.truncate(descriptor, self.size)
            self._blocks = FileBlocks(self._file, self.size, descriptor)
        return self._blocks

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_free_space(self, file: int) -> None:
        self._last_checked_size = self.size
        if free_bytes(file) < _RESERVED_SPACE:
            raise OSError(errno.ENOSPC, "")
