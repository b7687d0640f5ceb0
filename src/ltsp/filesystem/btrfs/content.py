"""Read the contents of btrfs files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.filesystem.btrfs.compression import MAX_EXTENT, decompress_extent
from ltsp.filesystem.btrfs.data import ExtentDataReader
from ltsp.filesystem.btrfs.items import EXTENT_DATA, OFFSET_END, FileExtent
from ltsp.filesystem.btrfs.nodes import TreeRoot
from ltsp.filesystem.btrfs.superblock import REMEDY
from ltsp.filesystem.record_reader import translate_damage
from ltsp.storage import extents as storage
from ltsp.tree.content import Stream


@dataclass(frozen=True, slots=True, eq=False)
class BtrfsContent:
    """A regular file; its extents are looked up when it is opened."""

    extent_data: ExtentDataReader
    tree: TreeRoot
    """The tree with its extents."""
    number: int
    size: int
    stored: int

    def open(self) -> AbstractContextManager[Stream]:
        with translate_damage(f"inode {self.number}"):
            try:
                return nullcontext(ExtentStream(self.extent_data, self.size, self._read_extents()))
            except FormatError as error:
                raise FormatError(f"inode {self.number}: {error.message}", REMEDY) from error

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
class ExtentStream:
    """An open file."""

    extent_data: ExtentDataReader
    size: int
    found: Sequence[FileExtent]
    """In file order, not overlapping; between them are holes."""
    at: int = 0
    index: int = 0
    """Index of the extent at the current position, or of the next one."""
    mtime: int | None = None
    _decompressed: tuple[int, bytes] = (-1, b"")
    """Index and content of the last compressed extent."""

    def read(self, size: int) -> bytes:
        left = min(size, self.size - self.at)
        pieces = []
        while left > 0:
            extent = self._current_extent()
            if extent is None:
                piece = bytes(left)
            elif self.at < extent.start:
                piece = bytes(min(left, extent.start - self.at))
            else:
                passed = self.at - extent.start
                piece = self._read_piece(extent, passed, min(left, extent.length - passed))
            pieces.append(piece)
            self.at += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        extent = self._current_extent()
        start = self.size if extent is None else min(extent.start, self.size)
        return max(0, start - self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        return True

    def extents(self) -> Iterator[storage.Extent]:
        """The extents of the rest, if there are no checksums to verify. Raises NotInFiles."""
        nodes = self.extent_data.nodes
        while self.at < self.size:
            extent = self._current_extent()
            start = self.size if extent is None else min(extent.start, self.size)
            if extent is None or self.at < start:
                size = start - self.at
                yield storage.Extent(storage.HOLE, 0, size)
            elif extent.compression or extent.inline is not None or self.extent_data.checksums is not None:
                raise storage.NotInFiles
            else:
                passed = self.at - extent.start
                size = min(extent.length - passed, self.size - self.at)
                address = extent.address + extent.offset + passed
                yield from storage.extents(nodes.blocks, nodes.chunks.locate_copies(address, size)[0], size)
            self.at += size

    def _current_extent(self) -> FileExtent | None:
        extents = self.found
        while self.index < len(extents):
            extent = extents[self.index]
            if self.at < extent.start + extent.length:
                return extent
            self.index += 1
        return None

    def _read_piece(self, extent: FileExtent, passed: int, size: int) -> bytes:
        if extent.compression:
            if self._decompressed[0] != self.index:
                self._decompressed = self.index, self._decompress(extent)
            at = extent.offset + passed
            return self._decompressed[1][at : at + size]
        if extent.inline is not None:
            return extent.inline[passed : passed + size]
        return self.extent_data.read(extent.address + extent.offset + passed, size)

    def _decompress(self, extent: FileExtent) -> bytes:
        stored = extent.inline
        if stored is None:
            stored = self.extent_data.read(extent.address, extent.stored)
        return decompress_extent(
            stored, extent.compression, extent.ram_bytes, self.extent_data.nodes.superblock.sector_size
        )
