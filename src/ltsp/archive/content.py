"""The contents of files in archives, as ranges of the archive.

A member can itself be read as an archive: a layer in a tar of layers is read like that tar.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, extents
from ltsp.tree.content import Stream


@dataclass(frozen=True, slots=True)
class DescriptorBlocks:
    """An open file; the caller closes it."""

    descriptor: int
    size: int
    """Size in bytes; data appended later is ignored."""

    @classmethod
    def of(cls, descriptor: int) -> DescriptorBlocks:
        return cls(descriptor, os.lseek(descriptor, 0, os.SEEK_END))

    def read_at(self, offset: int, size: int) -> bytes:
        left = min(size, self.size - offset)
        piece = os.pread(self.descriptor, left, offset) if left > 0 else b""
        if len(piece) == left or not piece:
            return piece
        pieces = [piece]
        while piece and (left := left - len(piece)):
            offset += len(piece)
            pieces.append(piece := os.pread(self.descriptor, left, offset))
        return b"".join(pieces)

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        if size:
            yield Extent(self.descriptor, offset, size)


@dataclass(frozen=True, slots=True, eq=False)
class ContiguousContent:
    """A file whose bytes are contiguous."""

    base: Blocks
    place: int
    size: int

    @property
    def stored(self) -> int:
        return self.size

    def read_at(self, offset: int, size: int) -> bytes:
        return self.base.read_at(self.place + offset, max(0, min(size, self.size - offset)))

    def hole_at(self, _place: int) -> int:
        return 0

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        return extents(self.base, self.place + offset, size)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_ContentStream(self))


@dataclass(frozen=True, slots=True, eq=False)
class SparseContent:
    """A file with holes, whose runs of data are contiguous."""

    base: Blocks
    place: int
    size: int
    offsets: tuple[int, ...]
    """Start of each run in the file; in order, no run touching the previous one."""
    starts: tuple[int, ...]
    """Start of each run in the data, and the end of the data."""

    @property
    def stored(self) -> int:
        return self.starts[-1]

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        found = []
        while size > 0:
            hole = min(self.hole_at(offset), size)
            if hole:
                piece = bytes(hole)
            else:
                run = bisect_right(self.offsets, offset) - 1
                inside = self.starts[run] + offset - self.offsets[run]
                piece = self.base.read_at(self.place + inside, min(size, self.starts[run + 1] - inside))
                if not piece:
                    break
            found.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(found)

    def hole_at(self, place: int) -> int:
        """The number of bytes from an offset on that are in a hole."""
        run = bisect_right(self.offsets, place) - 1
        if run >= 0 and place < self.offsets[run] + self.starts[run + 1] - self.starts[run]:
            return 0
        end = self.offsets[run + 1] if run + 1 < len(self.offsets) else self.size
        return max(0, end - place)

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        end = offset + size
        while offset < end:
            if hole := min(self.hole_at(offset), end - offset):
                yield Extent(HOLE, 0, hole)
                offset += hole
                continue
            run = bisect_right(self.offsets, offset) - 1
            inside = self.starts[run] + offset - self.offsets[run]
            count = min(end - offset, self.starts[run + 1] - inside)
            yield from extents(self.base, self.place + inside, count)
            offset += count

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_ContentStream(self))


@dataclass(slots=True)
class _ContentStream:
    content: ContiguousContent | SparseContent
    at: int = 0
    mtime: int | None = None

    @property
    def size(self) -> int:
        return self.content.size

    def read(self, size: int) -> bytes:
        """Raises FormatError if the archive was truncated since it was scanned."""
        piece = self.content.read_at(self.at, size)
        if len(piece) < min(size, self.size - self.at):
            raise FormatError(
                "the archive was truncated while it was being read", "try again when nothing writes to it"
            )
        self.at += len(piece)
        return piece

    def hole_size(self) -> int:
        return self.content.hole_at(self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def extents(self) -> Iterator[Extent]:
        """Raises NotInFiles."""
        return extents(self.content, 0, self.size)

    def is_consistent(self) -> bool:
        return True
