"""Bytes that are extents of other blocks, with holes between them: read at any offset, read as a stream, or located.

A disk is a map of clusters in its file, a volume a map of segments on disks, a file a map of runs in a volume, and a
member of an archive a range of it. Each is a `MappedBlocks`, or a `BlockRange` if it is contiguous, over the next one.
Every layer can say where its bytes are, so the ranges of a file in the open files at the bottom are known without
reading it: its bytes can be read directly from there, and the kernel can mount a volume that is one range.

Blocks that compute their bytes (decompress, decrypt, verify checksums) are no maps: they are where locating ends.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, FileBlocks, LazyBlocks

HOLE: Final = -1
"""In place of a descriptor: the range is zeros."""

DataRun = tuple[int, int, int]
"""Start in a file, start in the volume with it, and length, all in bytes."""
Range = tuple[int, int]
"""Offset and length in bytes."""


class Extent(NamedTuple):
    """Contiguous bytes: from an offset in `blocks`, or a hole if `blocks` is None."""

    size: int
    blocks: Blocks | None = None
    offset: int = 0


class FileRange(NamedTuple):
    """Contiguous bytes of an open file."""

    file: int
    """A file descriptor, or HOLE."""
    offset: int
    size: int


class NotInFiles(Exception):
    """The bytes are compressed, encrypted, assembled or damaged, so they must be read through the blocks."""


class Map(Blocks, Protocol):
    """Blocks that know where their bytes are."""

    def locate(self, offset: int, size: int) -> Extent:
        """The extent at an offset, of at least one byte and at most `size`. Raises like reading."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class BlockRange:
    """A contiguous part of other blocks; it may extend beyond their end, and then reads short."""

    blocks: Blocks
    offset: int
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        return self.blocks.read_at(self.offset + offset, size) if size > 0 else b""

    def locate(self, offset: int, size: int) -> Extent:
        return Extent(size, self.blocks, self.offset + offset)


@dataclass(frozen=True, slots=True, eq=False)
class MappedBlocks:
    """Bytes at the extents that a function returns, as `Map.locate` describes."""

    size: int
    locate: Callable[[int, int], Extent]
    padded: bool = True
    """Whether there are zeros beyond the end of the blocks of an extent: the last cluster of a disk image may be short,
    and so may the backing file of a larger disk. If not, the blocks read short there: they are truncated."""

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        pieces = []
        while size > 0:
            length, blocks, place = self.locate(offset, size)
            piece = bytes(length) if blocks is None else blocks.read_at(place, length)
            pieces.append(piece)
            if blocks is not None and len(piece) < length:
                if not self.padded:
                    break
                pieces.append(bytes(length - len(piece)))
            offset += length
            size -= length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def chain_extents(extents: Sequence[Extent], *, padded: bool = True) -> MappedBlocks:
    """Blocks with the bytes of these extents, one after another; `padded` as in MappedBlocks."""
    ends = list(accumulate(extent.size for extent in extents))

    def locate(offset: int, size: int) -> Extent:
        index = bisect_right(ends, offset)
        length, blocks, place = extents[index]
        left = ends[index] - offset
        return Extent(min(size, left), blocks, place + length - left)

    return MappedBlocks(ends[-1] if ends else 0, locate, padded)


def map_extents(size: int, extents: Iterable[tuple[int, Extent]]) -> MappedBlocks:
    """A file of `size` bytes with extents at offsets, in order and not overlapping; everything else is a hole.

    Raises FormatError if an extent is beyond the end of its blocks.
    """
    found: list[Extent] = []
    end = 0
    for start, (extent_size, blocks, place) in extents:
        if start >= size:
            break
        length = min(extent_size, size - start)
        if blocks is not None and length and place + length > blocks.size:
            raise FormatError(f"a file has data at {place}, beyond the end of the volume")
        if start > end:
            found.append(Extent(start - end))
        found.append(Extent(length, blocks, place))
        end = start + length
    if end < size:
        found.append(Extent(size - end))
    return chain_extents(found, padded=False)


def map_runs(blocks: Blocks, size: int, runs: Iterable[DataRun]) -> MappedBlocks:
    """A file of `size` bytes with its data in runs of a volume, as in `map_extents`."""
    return map_extents(size, ((start, Extent(length, blocks, place)) for start, place, length in runs))


def read_runs(blocks: Blocks, size: int, runs: Iterable[DataRun]) -> bytes:
    """All bytes of a file that the caller knows to be small. Raises FormatError."""
    return ExtentStream(map_runs(blocks, size, runs)).read(size)


def add_run(runs: list[DataRun], start: int, place: int, length: int) -> None:
    """Append a run; join it to the last one if it continues that in the file and in the volume."""
    if runs:
        last_start, last_place, last_length = runs[-1]
        if last_start + last_length == start and last_place + last_length == place:
            runs[-1] = (last_start, last_place, last_length + length)
            return
    runs.append((start, place, length))


def join_extents(locate: Callable[[int], Extent], offset: int, size: int) -> Extent:
    """The extent at an offset, joined with those that follow it without a gap, up to a size."""
    length, blocks, place = locate(offset)
    while length < size and not isinstance(blocks, LazyBlocks):
        following = locate(offset + length)
        if following.blocks is not blocks or (blocks and following.offset != place + length):
            break
        length += following.size
    return Extent(min(length, size), blocks, place)


@dataclass(slots=True)
class ExtentStream:
    """Reads a map from start to end: the `Stream` of every content that is extents of other blocks."""

    blocks: Map
    source: str = "the source"
    """What is truncated if the data ends early, for messages."""
    at: int = 0
    mtime: int | None = None
    _data_end: int = 0
    """Up to here there is no hole."""

    @property
    def size(self) -> int:
        return self.blocks.size

    def read(self, size: int) -> bytes:
        """Raises FormatError and SourceError, also if the source was truncated since it was scanned."""
        size = min(size, self.blocks.size - self.at)
        if size <= 0:
            return b""
        data = self.blocks.read_at(self.at, size)
        if len(data) < size:
            raise FormatError(
                f"{self.source} was truncated while it was being read", "try again when nothing writes to it"
            )
        self.at += size
        return data

    def hole_size(self) -> int:
        left = self.blocks.size - self.at
        if self.at < self._data_end or left <= 0:
            return 0
        extent = self.blocks.locate(self.at, left)
        if extent.blocks is None:
            return extent.size
        self._data_end = self.at + extent.size
        return 0

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        """Always: the source checks its files as a whole."""
        return True


def find_extents(blocks: Blocks, offset: int, size: int) -> Iterator[Extent]:
    """The extents of a range at the bottom of all maps, in order; the last may extend beyond the end of its blocks."""
    locate: Callable[[int, int], Extent] | None = getattr(blocks, "locate", None)
    end = offset + size
    if locate is not None:
        within = min(end, blocks.size)
        while offset < within:
            extent = locate(offset, within - offset)
            if extent.blocks is None:
                yield extent
            else:
                yield from find_extents(extent.blocks, extent.offset, extent.size)
            offset += extent.size
    if offset < end:
        yield Extent(end - offset, blocks, offset)


def find_file_ranges(blocks: Blocks, offset: int, size: int) -> Iterator[FileRange]:
    """The ranges of open files that hold a range of bytes, in order. Raises NotInFiles, and what locating raises."""
    if offset < 0:
        raise NotInFiles
    for extent in find_extents(blocks, offset, size):
        match extent.blocks:
            case None:
                yield FileRange(HOLE, 0, extent.size)
            case FileBlocks(descriptor=file, size=end) if file >= 0 and extent.offset + extent.size <= end:
                yield FileRange(file, extent.offset, extent.size)
            case _:
                raise NotInFiles


def join_ranges(ranges: Iterable[FileRange], limit: int) -> list[FileRange]:
    """Join adjacent ranges. Raises NotInFiles if more than `limit` remain."""
    found: list[FileRange] = []
    for each in ranges:
        last = found[-1] if found else None
        if last and last.file == each.file and (last.offset + last.size == each.offset or each.file == HOLE):
            found[-1] = FileRange(last.file, last.offset, last.size + each.size)
        elif len(found) == limit:
            raise NotInFiles
        else:
            found.append(each)
    return found


def find_contiguous_range(blocks: Blocks) -> FileRange | None:
    """The range of a file that equals the blocks; None if they are not contiguous.

    Raises FormatError and SourceError.
    """
    try:
        [found] = join_ranges(find_file_ranges(blocks, 0, blocks.size), 1)
    except (NotInFiles, ValueError):
        return None
    return None if found.file == HOLE else found


def find_data_ranges(blocks: Blocks) -> Iterator[Range]:
    """The ranges that may hold data, in order; everything outside of them is zero.

    Raises FormatError and SourceError.
    """
    begin = end = 0
    for place, length in _stored_ranges(blocks):
        if place > end:
            if end > begin:
                yield begin, end - begin
            begin = place
        end = place + length
    if end > begin:
        yield begin, end - begin


def _stored_ranges(blocks: Blocks) -> Iterator[Range]:
    at = 0
    for size, bottom, offset in find_extents(blocks, 0, blocks.size):
        if bottom is not None:
            stored = min(size, bottom.size - offset)
            if isinstance(bottom, FileBlocks) and bottom.descriptor >= 0:
                for place, length in _seek_data_ranges(bottom.descriptor, offset, stored):
                    yield at + place, length
            elif stored > 0:
                yield at, stored
        at += size


def _seek_data_ranges(descriptor: int, offset: int, size: int) -> Iterator[Range]:
    """The data ranges of a part of a file, relative to it. lseek(2), SEEK_DATA; without support, everything is data."""
    at, end = offset, offset + size
    while at < end:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more data
                yield at - offset, end - at
            return
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        if data < end:
            yield data - offset, min(hole, end) - data
        at = hole
