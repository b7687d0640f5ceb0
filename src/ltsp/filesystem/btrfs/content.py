"""Read the contents of btrfs files: their extents, verified with the checksum tree, and decompressed.

Linux fs/btrfs/file-item.c, bio.c, compression.c, lzo.c
"""

from __future__ import annotations

import sys
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from ltsp.errors import FormatError
from ltsp.filesystem.btrfs.items import EXTENT_CSUM, EXTENT_DATA, OFFSET_END, FileExtent
from ltsp.filesystem.btrfs.nodes import NodeReader, TreeRoot
from ltsp.filesystem.btrfs.superblock import REMEDY
from ltsp.filesystem.tree_reader import add_remedy, translate_damage
from ltsp.storage import lzo
from ltsp.storage.blocks import LazyBlocks, MemoryBlocks
from ltsp.storage.extents import Extent, ExtentStream, map_extents
from ltsp.tree.content import Stream

_DATA_REMEDY = "restore the file on its own system (btrfs scrub lists all damaged files), or exclude it"
_CHECKSUM_OBJECT = OFFSET_END - 10
"""The object of all items in the checksum tree. Linux BTRFS_EXTENT_CSUM_OBJECTID"""
MAX_EXTENT_SIZE = 128 << 10
"""Largest size in bytes of a compressed extent, before and after compression."""
_MAX_WINDOW_LOG = 17
"""Base-2 logarithm of the largest zstd window."""
_WORD = 4


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
        reader = self.extent_data.node_reader
        for (_, _, start), data in reader.items(self.tree, first, end):
            extent = FileExtent.parse(start, data)
            if start < following:
                raise FormatError("its extents overlap")
            following = start + extent.length
            if extent.inline is not None:
                if start or extent.ram_bytes > MAX_EXTENT_SIZE:
                    raise FormatError("one of its inline extents is invalid")
            elif not extent.address or not extent.is_written:
                continue
            elif extent.compression:
                if (
                    extent.stored > MAX_EXTENT_SIZE
                    or extent.ram_bytes > MAX_EXTENT_SIZE
                    or extent.offset + extent.length > extent.ram_bytes
                ):
                    raise FormatError("one of its compressed extents is too large")
                reader.chunks.locate_copies(extent.address, extent.stored)
            else:
                reader.chunks.locate_copies(extent.address + extent.offset, extent.length)
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
        reader = self.extent_data.node_reader
        return Extent(extent.length, reader.blocks, reader.chunks.locate_copies(address, extent.length)[0])

    def _decompress(self, extent: FileExtent) -> bytes:
        if self._decompressed[0] is not extent:
            stored = extent.inline
            if stored is None:
                stored = self.extent_data.read_at(extent.address, extent.stored)
            sector = self.extent_data.node_reader.superblock.sector_size
            self._decompressed = extent, decompress_extent(stored, extent.compression, extent.ram_bytes, sector)
        return self._decompressed[1]


@dataclass(frozen=True, slots=True, eq=False)
class ExtentDataReader:
    """Blocks by btrfs address, for the data of extents. Several threads may use it."""

    node_reader: NodeReader
    checksums: TreeRoot | None
    """The checksum tree; None for files that have no checksums (nodatasum)."""

    @property
    def size(self) -> int:
        """The end of all addresses."""
        return 1 << 64

    def read_at(self, address: int, size: int) -> bytes:
        """Raises FormatError if the volume is too short, or no copy has the right checksum."""
        if self.checksums is None:
            return self._read_raw(self.node_reader.chunks.locate_copies(address, size)[0], size)
        sector = self.node_reader.superblock.sector_size
        start = address - address % sector
        end = address + size + -(address + size) % sector
        data = self._read_verified(start, end - start, self._read_checksums(self.checksums, start, end))
        return data if len(data) == size else data[address - start : address - start + size]

    def _read_verified(self, address: int, size: int, expected: bytes) -> bytes:
        """Whole sectors, each from the first valid copy."""
        sector, checksum = self.node_reader.superblock.sector_size, self.node_reader.superblock.checksum
        first, *others = self.node_reader.chunks.locate_copies(address, size)
        data = self._read_raw(first, size)
        width = len(expected) * sector // size
        sectors = [data[at : at + sector] for at in range(0, size, sector)]
        found = b"".join(map(checksum, sectors))
        if found == expected:
            return data
        for number in range(len(sectors)):
            wanted = expected[number * width : (number + 1) * width]
            if found[number * width : (number + 1) * width] == wanted:
                continue
            copies = (self._read_raw(other + number * sector, sector) for other in others)
            sound = next((copy for copy in copies if checksum(copy) == wanted), None)
            if sound is None:
                raise FormatError(
                    f"its data at address {address + number * sector} is damaged: wrong checksum", _DATA_REMEDY
                )
            sectors[number] = sound
        return b"".join(sectors)

    def _read_checksums(self, tree: TreeRoot, start: int, end: int) -> bytes:
        """The concatenated checksums of these sectors."""
        sector = self.node_reader.superblock.sector_size
        width = len(self.node_reader.superblock.checksum(b""))
        pieces: list[bytes] = []
        following = start
        first = self.node_reader.find_floor(tree, (_CHECKSUM_OBJECT, EXTENT_CSUM, start)) or (
            _CHECKSUM_OBJECT,
            EXTENT_CSUM,
            start,
        )
        for (_, kind, at), sums in self.node_reader.items(tree, first, (_CHECKSUM_OBJECT, EXTENT_CSUM, end)):
            if kind != EXTENT_CSUM or at > following:
                break
            piece = sums[(following - at) // sector * width : (end - at) // sector * width]
            pieces.append(piece)
            following += len(piece) // width * sector
        if following < end:
            raise FormatError(f"its data at address {following} has no checksum")
        return b"".join(pieces)

    def _read_raw(self, place: int, size: int) -> bytes:
        data = self.node_reader.blocks.read_at(place, size)
        if len(data) < size:
            raise FormatError(f"it has data at {place}, beyond the end of the volume")
        return data


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def decompress_extent(data: bytes, kind: int, size: int, sector: int) -> bytes:
    """The `size` bytes of an extent, padded with zeros if it has fewer, as in the kernel.

    Raises FormatError if it is damaged.
    """
    if size > MAX_EXTENT_SIZE or len(data) > MAX_EXTENT_SIZE:
        raise FormatError("a compressed extent is too large")
    match kind:
        case 1:
            found = _decompress_zlib(data, size)
        case 2:
            found = _decompress_lzo(data, size, sector)
        case 3:
            found = _decompress_zstd(data, size)
        case _:
            raise FormatError(f"an extent has an unknown compression type, {kind}")
    return found + bytes(size - len(found))


def _decompress_zlib(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise FormatError(f"a compressed extent is damaged: {error}") from error


def _decompress_zstd(data: bytes, size: int) -> bytes:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    try:
        return zstd.ZstdDecompressor(options=options).decompress(data, size)
    except zstd.ZstdError as error:
        raise FormatError(f"a compressed extent is damaged: {error}") from error


def _decompress_lzo(data: bytes, size: int, sector: int) -> bytes:
    """Decompress sectors compressed one by one; the size of a piece never crosses the end of a sector."""
    total = int.from_bytes(data[:_WORD], "little")
    if total > len(data):
        raise FormatError("a compressed extent is damaged: it is truncated")
    pieces: list[bytes] = []
    at, found = _WORD, 0
    while at + _WORD <= total and found < size:
        left = sector - at % sector
        if left < _WORD:
            at += left
        length = int.from_bytes(data[at : at + _WORD], "little")
        at += _WORD
        if not 0 < length <= total - at:
            raise FormatError("a compressed extent is damaged: a piece is truncated")
        piece = lzo.decompress(data[at : at + length], sector)
        at += length
        pieces.append(piece)
        found += len(piece)
    return b"".join(pieces)[:size]
