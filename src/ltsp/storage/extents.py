"""Where bytes lie in open files, as they are there: who has the files may read them without asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ltsp.storage.blocks import Blocks

HOLE: Final = -1
"""In the place of a file: so many zeros."""


class Extent(NamedTuple):
    file: int
    """A descriptor."""
    offset: int
    size: int


class NotInFiles(Exception):
    """They are compressed, encrypted or put together, or they are damaged; reading them tells."""


def extents(blocks: Blocks, offset: int, size: int) -> Iterator[Extent]:
    """All of these bytes, in their order: what the method of this name says, where the blocks have one.

    Raises NotInFiles, and what reading them would raise.
    """
    found: Callable[[int, int], Iterator[Extent]] | None = getattr(blocks, "extents", None)
    if found is None or offset < 0 or offset + size > blocks.size:
        raise NotInFiles
    return found(offset, size)


def merge_extents(every: Iterator[Extent], most: int) -> list[Extent]:
    """With those made one that go on from each other. Raises NotInFiles where they are more than `most`."""
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
