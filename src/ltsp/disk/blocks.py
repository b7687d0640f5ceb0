"""Readable ranges of bytes: files, parts of other ranges, and images whose parts are scattered."""

from __future__ import annotations

import io
import os
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from ltsp.errors import SourceError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, NotInFiles, extents

SECTOR: Final = 512
"""Bytes: the unit of most tables, regardless of the disk's own sector size."""


OpenSibling = Callable[[str], BinaryIO]
"""Opens a file by the name that an image stores, after the directory of the image if that is elsewhere. It decides
what may be opened, and closes the files when reading ends.

Raises LtspError.
"""


def unpack_integers(layout: str, data: bytes) -> array[int]:
    """Integers in a struct layout: `<I` is little-endian, four bytes; `>Q` is big-endian, eight bytes."""
    found = array(layout[1], data)
    if layout[0] != ("<" if sys.byteorder == "little" else ">"):
        found.byteswap()
    return found


@dataclass(frozen=True, slots=True, eq=False)
class FileBlocks:
    """An open file; the caller closes it."""

    file: BinaryIO
    size: int
    descriptor: int
    """-1 if the file has no descriptor."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, file: BinaryIO) -> FileBlocks:
        """Raises SourceError if its size cannot be determined."""
        try:
            descriptor = file.fileno()
        except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
            descriptor = -1
        try:
            size = file.seek(0, io.SEEK_END)
        except OSError as error:
            raise SourceError(f"cannot determine its size: {error.strerror}") from error
        return cls(file, size, descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        try:
            piece = self._read(offset, size)
            if len(piece) == size:
                return piece
            pieces = [piece]
            while piece and size > len(piece):
                offset += len(piece)
                size -= len(piece)
                pieces.append(piece := self._read(offset, size))
        except OSError as error:
            raise SourceError(f"cannot read it at offset {offset}: {error.strerror}") from error
        return b"".join(pieces)

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        if self.descriptor < 0:
            raise NotInFiles
        yield Extent(self.descriptor, offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        if self.descriptor >= 0:
            return os.pread(self.descriptor, size, offset)
        with self.lock:
            self.file.seek(offset)
            return self.file.read(size)


@dataclass(frozen=True, slots=True, eq=False)
class BlockRange:
    """A part of other blocks; it may extend beyond their end."""

    blocks: Blocks
    offset: int
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        return self.blocks.read_at(self.offset + offset, size) if size > 0 else b""

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        return extents(self.blocks, self.offset + offset, size)


@dataclass(frozen=True, slots=True, eq=False)
class BlockRun:
    """Contiguous bytes: from an offset in `blocks`, or zeros if `blocks` is None."""

    size: int
    blocks: Blocks | None = None
    offset: int = 0


def join_runs(run_at: Callable[[int], BlockRun], offset: int, size: int) -> BlockRun:
    """The run at an offset, joined with those that follow it without a gap, up to a size."""
    run = run_at(offset)
    while run.size < size and not isinstance(run.blocks, LazyBlocks):
        more = run_at(offset + run.size)
        if more.blocks is not run.blocks or (run.blocks and more.offset != run.offset + run.size):
            break
        run = BlockRun(run.size + more.size, run.blocks, run.offset)
    return BlockRun(min(run.size, size), run.blocks, run.offset)


@dataclass(frozen=True, slots=True, eq=False)
class MappedBlocks:
    """An image whose bytes are in runs.

    `run` returns the run at an offset, with at least one byte and at most the given number. Beyond the end of the
    blocks of a run there are zeros: the last cluster of an image may be short, and so may the backing file of a larger
    disk.
    """

    size: int
    run: Callable[[int, int], BlockRun]

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        pieces = []
        while size > 0:
            run = self.run(offset, size)
            piece = run.blocks.read_at(run.offset, run.size) if run.blocks else bytes(run.size)
            pieces.append(piece)
            if len(piece) < run.size:
                pieces.append(bytes(run.size - len(piece)))
            offset += run.size
            size -= run.size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        while size > 0:
            run = self.run(offset, size)
            if run.blocks is None:
                yield Extent(HOLE, 0, run.size)
            else:
                yield from extents(run.blocks, run.offset, run.size)
            offset += run.size
            size -= run.size


@dataclass(frozen=True, slots=True, eq=False)
class LazyBlocks:
    """Bytes that are produced when they are read."""

    size: int
    make: Callable[[], bytes]

    def read_at(self, offset: int, size: int) -> bytes:
        return self.make()[offset : offset + size]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryBlocks:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]
