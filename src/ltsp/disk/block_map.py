"""Find where a volume's data is in its files: one contiguous extent, or ranges with holes between them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ltsp.disk.blocks import BlockRange, FileBlocks, MappedBlocks
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, NotInFiles, extents, merge_extents

Range = tuple[int, int]
"""Offset and length in bytes."""


def find_contiguous_extent(blocks: Blocks) -> Extent | None:
    """The extent of a file that equals the blocks; None if they are not contiguous.

    Raises FormatError and SourceError.
    """
    try:
        [found] = merge_extents(extents(blocks, 0, blocks.size), 1)
    except (NotInFiles, ValueError):
        return None
    return None if found.file == HOLE else found


def data_ranges(blocks: Blocks) -> Iterator[Range]:
    """The ranges that may hold data, in order; everything outside of them is zero.

    Raises FormatError and SourceError.
    """
    begin = end = 0
    for place, length in _map_ranges(blocks, 0, blocks.size):
        if place > end:
            if end > begin:
                yield begin, end - begin
            begin = place
        end = place + length
    if end > begin:
        yield begin, end - begin


def _map_ranges(blocks: Blocks, offset: int, size: int) -> Iterator[Range]:
    """The data ranges of `size` bytes from an offset; offsets are relative to it."""
    size = min(size, blocks.size - offset)
    if size <= 0:
        return
    match blocks:
        case FileBlocks(descriptor=descriptor) if descriptor >= 0:
            yield from _seek_data_ranges(descriptor, offset, size)
        case BlockRange(blocks=inner, offset=start):
            yield from _map_ranges(inner, start + offset, size)
        case MappedBlocks():
            at = 0
            while at < size:
                run = blocks.run(offset + at, size - at)
                if run.blocks is not None:
                    for place, length in _map_ranges(run.blocks, run.offset, run.size):
                        yield at + place, length
                at += run.size
        case _:
            yield 0, size


def _seek_data_ranges(descriptor: int, offset: int, size: int) -> Iterator[Range]:
    """The data ranges of a file. lseek(2), SEEK_DATA; without support for it, everything counts as data."""
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
