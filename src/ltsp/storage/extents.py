"""Describe bytes as extents of open files, so that they can be read directly from the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ltsp.storage.blocks import Blocks

HOLE: Final = -1
"""Instead of a descriptor: the extent is a run of zeros."""


class Extent(NamedTuple):
    file: int
    """A file descriptor, or HOLE."""
    offset: int
    size: int


class NotInFiles(Exception):
    """The bytes are compressed, encrypted, assembled or damaged, so they must be read through the blocks."""


def extents(blocks: Blocks, offset: int, size: int) -> Iterator[Extent]:
    """The extents of a range in order, from the blocks' own `extents` method if they have one.

    Raises NotInFiles, and whatever reading would raise.
    """
    found: Callable[[int, int], Iterator[Extent]] | None = getattr(blocks, "extents", None)
    if found is None or offset < 0 or offset + size > blocks.size:
        raise NotInFiles
    return found(offset, size)


def merge_extents(every: Iterator[Extent], most: int) -> list[Extent]:
    """Join adjacent extents. Raises NotInFiles if more than `most` remain."""
    found: list[Extent] = []
    for extent in every:
        last = found[-1] if found else None
        if last and last.file == extent.file and (last.offset + last.size == extent.offset or extent.file == HOLE):
            found[-1] = Extent(last.file, last.offset, last.size + extent.size)
        elif len(found) == most:
            raise NotInFiles
        else:
            found.append(extent)
    return found
