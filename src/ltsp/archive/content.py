"""The contents of files in archives, as extents of the archive.

A member can itself be read as an archive: a layer in a tar of layers is read like that tar.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import BlockRange, DataRun, ExtentStream, Map, map_runs
from ltsp.tree.content import Stream


@dataclass(frozen=True, slots=True, eq=False)
class ArchivedContent:
    """A regular file; its map is made when it is opened, as most files are contiguous and never read at an offset."""

    base: Blocks
    place: int
    """Offset of the stored bytes in the base."""
    size: int
    runs: tuple[DataRun, ...] | None = None
    """The runs of a file with holes, in the stored bytes."""

    @property
    def stored(self) -> int:
        return self.size if self.runs is None else sum(length for _, _, length in self.runs)

    def map(self) -> Map:
        """The file, for reading at any offset."""
        if self.runs is None:
            return BlockRange(self.base, self.place, self.size)
        return map_runs(BlockRange(self.base, self.place, self.stored), self.size, self.runs)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(ExtentStream(self.map(), "the archive"))
