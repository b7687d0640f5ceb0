"""How the bytes of a volume lie in files: in one piece of one of them, and where there is nothing but zeros."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from ltsp.disk.blocks import BlockRange, FileBlocks, MappedBlocks
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, NotInFiles, extents, merge_extents

Range = tuple[int, int]
"""Place and length, bytes."""


def find_contiguous_extent(blocks: Blocks) -> Extent | None:
    """The range of a file that they are; None where they are none.

    Raises FormatError and SourceError.
    """
    try:
        [found] = merge_extents(extents(blocks, 0, blocks.size), 1)
    except (NotInFiles, ValueError):
        return None
    return None if found.file == HOLE else found


def data_ranges(blocks: Blocks) -> Iterator[Range]:
    """The ranges beside which there are only zeros, in order; zeros may be in them, too.

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
    """Of so many bytes from an offset on; places count from there."""
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
    """Where it has data. lseek(2), SEEK_DATA; a file system or a device that does not tell has nothing else."""
    at, end = offset, offset + size
    while at < end:
        try:
            data = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is none behind
                yield at - offset, end - at
            return
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        if data < end:
            yield data - offset, min(hole, end) - data
        at = hole
