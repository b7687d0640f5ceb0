"""Read the contents of btrfs files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from ltsp.errors import FormatError
from ltsp.filesystem.btrfs.data import MAX_EXTENT, ExtentDataReader, decompress_extent
from ltsp.filesystem.btrfs.items import EXTENT_DATA, OFFSET_END, FileExtent
from ltsp.filesystem.btrfs.nodes import TreeRoot
from ltsp.filesystem.btrfs.superblock import REMEDY
from ltsp.filesystem.tree_reader import add_remedy, translate_damage
from ltsp.storage.blocks import LazyBlocks, MemoryBlocks
from ltsp.storage.extents import Extent, ExtentStream, map_extents
from ltsp.tree.content import Stream


@dataclass(frozen=True, slots=True, eq=False)
class BtrfsContent:
    """A regular file; its extents are looked up when it is opened."""

    extent_data: ExtentDataReader
    tree: TreeRoot
    """The tree with its extents."""
    number: int
    size: int
    stored_size: int

    def open(self) -> AbstractContextManager[Stream]:
        where = f"inode {self.number}"
        locate = _ExtentLocator(self.extent_data).locate
        with translate_damage(where), add_remedy(REMEDY, where):
            extents = ((extent.start, locate(extent)) for extent in self._read_extents())
            return nullcontext(ExtentStream(map_extents(self.size, extents)))

    def _read_extents(self) -> list[FileExtent]:
        """The extents with data, in order.

        Raises FormatError if they overlap or are outside of the volume.
        """
        first, end = (self.number, EXTENT_DATA, 0), (self.number, EXTENT_DATA, OFFSET_END)
        found: list[FileExtent] = []
        following = 0
        nodes = self.extent_data.nodes
        for (_, _, start), data in nodes.items(self.tree, first, end):
            extent = FileExtent.parse(start, data)
            if start < following:
                raise FormatError("its extents overlap")
            following = start + extent.length
            if extent.inline is not None:
                if start or extent.ram_bytes > MAX_EXTENT:
                    raise FormatError("one of its inline extents is invalid")
            elif not extent.address or not extent.written:
                continue
            elif extent.compression:
                if (
                    extent.stored > MAX_EXTENT
                    or extent.ram_bytes > MAX_EXTENT
                    or extent.offset + extent.length > extent.ram_bytes
                ):
                    raise FormatError("one of its compressed extents is too large")
                nodes.chunks.locate_copies(extent.address, extent.stored)
            else:
                nodes.chunks.locate_copies(extent.address + extent.offset, extent.length)
            found.append(extent)
        return found


@dataclass(slots=True)
class _ExtentLocator:
    """Says where the extents of one file are: in the volume if there is nothing to verify, else in a reader."""

    extent_data: ExtentDataReader
    _decompressed: tuple[FileExtent | None, bytes] = (None, b"")
    """The last compressed extent, and its content."""

    def locate(self, extent: FileExtent) -> Extent:
        if extent.compression:
            return Extent(extent.length, LazyBlocks(extent.ram_bytes, partial(self._decompress, extent)), extent.offset)
        if extent.inline is not None:
            return Extent(extent.length, MemoryBlocks(extent.inline))
        address = extent.address + extent.offset
        if self.extent_data.checksums is not None:
            return Extent(extent.length, self.extent_data, address)
        nodes = self.extent_data.nodes
        return Extent(extent.length, nodes.blocks, nodes.chunks.locate_copies(address, extent.length)[0])

    def _decompress(self, extent: FileExtent) -> bytes:
        if self._decompressed[0] is not extent:
            stored = extent.inline
            if stored is None:
                stored = self.extent_data.read_at(extent.address, extent.stored)
            sector = self.extent_data.nodes.superblock.sector_size
            self._decompressed = extent, decompress_extent(stored, extent.compression, extent.ram_bytes, sector)
        return self._decompressed[1]
