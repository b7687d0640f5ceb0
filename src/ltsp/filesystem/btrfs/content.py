"""The contents of files of btrfs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.filesystem.blocks import damage_told
from ltsp.filesystem.btrfs.compression import MOST, unfolded
from ltsp.filesystem.btrfs.data import Data
from ltsp.filesystem.btrfs.items import EXTENT_DATA, LAST, Extent
from ltsp.filesystem.btrfs.nodes import Root
from ltsp.filesystem.btrfs.superblock import REMEDY
from ltsp.storage import extents as storage
from ltsp.tree.content import Stream


@dataclass(frozen=True, slots=True, eq=False)
class BtrfsContent:
    """A regular file, whose extents are looked up when it is opened."""

    extent_data: Data
    tree: Root
    """In which its extents are looked up."""
    number: int
    size: int
    stored: int

    def open(self) -> AbstractContextManager[Stream]:
        with damage_told(f"inode {self.number}"):
            try:
                return nullcontext(ExtentStream(self.extent_data, self.size, self._extents()))
            except FormatError as error:
                raise FormatError(f"inode {self.number}: {error.message}", REMEDY) from error

    def _extents(self) -> list[Extent]:
        """Those with data, in their order.

        Raises FormatError where they overlap or lie outside of the volume.
        """
        first, end = (self.number, EXTENT_DATA, 0), (self.number, EXTENT_DATA, LAST)
        found: list[Extent] = []
        following = 0
        nodes = self.extent_data.nodes
        for (_, _, start), data in nodes.items(self.tree, first, end):
            extent = Extent.parse(start, data)
            if start < following:
                raise FormatError("its extents overlap")
            following = start + extent.length
            if extent.inline is not None:
                if start or extent.unfolded > MOST:
                    raise FormatError("an extent of it lies where it cannot be")
            elif not extent.address or not extent.written:
                continue
            elif extent.compression:
                if extent.stored > MOST or extent.unfolded > MOST or extent.offset + extent.length > extent.unfolded:
                    raise FormatError("a compressed extent of it is too large")
                nodes.chunks.places(extent.address, extent.stored)
            else:
                nodes.chunks.places(extent.address + extent.offset, extent.length)
            found.append(extent)
        return found


@dataclass(slots=True)
class ExtentStream:
    """One reading."""

    extent_data: Data
    size: int
    found: Sequence[Extent]
    """In the order of the file, not overlapping; between them are holes."""
    at: int = 0
    index: int = 0
    """Of the extent in which the stream stands, or of the next one."""
    mtime: int | None = None
    _unfolded: tuple[int, bytes] = (-1, b"")
    """Index and content of the last compressed extent."""

    def read(self, size: int) -> bytes:
        left = min(size, self.size - self.at)
        pieces = []
        while left > 0:
            extent = self._extent()
            if extent is None:
                piece = bytes(left)
            elif self.at < extent.start:
                piece = bytes(min(left, extent.start - self.at))
            else:
                passed = self.at - extent.start
                piece = self._piece(extent, passed, min(left, extent.length - passed))
            pieces.append(piece)
            self.at += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole(self) -> int:
        extent = self._extent()
        start = self.size if extent is None else min(extent.start, self.size)
        return max(0, start - self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def settled(self) -> bool:
        return True

    def extents(self) -> Iterator[storage.Extent]:
        """Of all that is left, where nothing is to be compared with a checksum. Raises NotInFiles."""
        nodes = self.extent_data.nodes
        while self.at < self.size:
            extent = self._extent()
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
                yield from storage.extents(nodes.blocks, nodes.chunks.places(address, size)[0], size)
            self.at += size

    def _extent(self) -> Extent | None:
        extents = self.found
        while self.index < len(extents):
            extent = extents[self.index]
            if self.at < extent.start + extent.length:
                return extent
            self.index += 1
        return None

    def _piece(self, extent: Extent, passed: int, size: int) -> bytes:
        if extent.compression:
            if self._unfolded[0] != self.index:
                self._unfolded = self.index, self._whole(extent)
            at = extent.offset + passed
            return self._unfolded[1][at : at + size]
        if extent.inline is not None:
            return extent.inline[passed : passed + size]
        return self.extent_data.read(extent.address + extent.offset + passed, size)

    def _whole(self, extent: Extent) -> bytes:
        stored = extent.inline
        if stored is None:
            stored = self.extent_data.read(extent.address, extent.stored)
        return unfolded(stored, extent.compression, extent.unfolded, self.extent_data.nodes.superblock.sector_size)
