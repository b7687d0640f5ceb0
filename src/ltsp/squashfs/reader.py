"""Read an image: from an open file to a tree whose contents are read on demand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from threading import local
from typing import BinaryIO

from ltsp.errors import FormatError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.data_reader import DataReader
from ltsp.squashfs.format import METADATA_SIZE, METADATA_STORED, NO_TABLE, FragmentEntry
from ltsp.squashfs.inode_reader import InodeReader
from ltsp.squashfs.meta_reader import Decompress, ImageFile, LookupTable, MemoryBudget, MetadataTable
from ltsp.squashfs.superblock import CompressorId, Flags, SquashfsSuperblock
from ltsp.squashfs.tree_reader import SquashfsTreeReader
from ltsp.squashfs.xattr_reader import XattrReader
from ltsp.tree.tree import Tree

_BASE_MEMORY = 384 << 20
_MEMORY_PER_TABLE_BYTE = 32
"""Bytes of memory that a tree may take: for any image, and per stored byte of its tables.

The tables of real images decompress to at most eight times their size."""

_ID_ENTRY = struct.Struct("<I")
EXPORT_ENTRY = struct.Struct("<Q")
"""Entries of the id table and of the export table, which is indexed by inode number minus one."""


@dataclass(frozen=True, slots=True)
class ImageTables:
    """The location of everything in an image, and the arrays that are read at the start."""

    ids: tuple[int, ...]
    inodes: MetadataTable
    directories: MetadataTable
    fragments: LookupTable | None
    exports: LookupTable | None
    id_table: LookupTable
    xattrs: XattrReader | None


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose superblock and small tables have been read."""

    file: ImageFile
    superblock: SquashfsSuperblock
    tables: ImageTables
    blocks: DataReader

    @classmethod
    def open(cls, file: BinaryIO, name: str = "image") -> Image:
        """The image in a seekable file, which the caller closes after the last use of a content.

        The name is for messages about damaged contents, which are detected later.
        Raises FormatError if the file is not an image, or its tables are damaged.
        """
        image = ImageFile(file, name)
        superblock = SquashfsSuperblock.parse(image.read_up_to(0, SquashfsSuperblock.layout.size), image.size)
        decompress = _make_decompressor(superblock)
        tables = _read_tables(image, decompress, superblock)
        area = range(SquashfsSuperblock.layout.size, superblock.inode_table)
        blocks = DataReader(image, decompress, superblock.block_size, area, tables.fragments)
        return cls(image, superblock, tables, blocks)

    def compression(self) -> Compression:
        """The compression recorded in the image.

        Raises FormatError if the record of the compressor options is damaged.
        """
        options = b""
        if self.superblock.flags & Flags.COMPRESSOR_OPTIONS:
            at = SquashfsSuperblock.layout.size
            header = int.from_bytes(self.file.read(at, 2), "little")
            if not METADATA_STORED < header <= METADATA_STORED | METADATA_SIZE:
                raise FormatError("the compressor options after the superblock are damaged")
            options = self.file.read(at + 2, header & ~METADATA_STORED)
        return Compression.parse(CompressorId(self.superblock.compressor), options)

    def tree(self) -> Tree:
        """The tree of the image. Names of one inode share its node.

        Raises FormatError if any inode or directory is damaged; contents are not checked.
        """
        tables, superblock = self.tables, self.superblock
        stored = superblock.bytes_used - superblock.inode_table
        budget = MemoryBudget(_BASE_MEMORY + _MEMORY_PER_TABLE_BYTE * stored)
        inodes = InodeReader(tables.inodes, tables.ids, tables.xattrs, self.blocks, budget)
        return SquashfsTreeReader(superblock, tables.directories, inodes, budget).tree()


class _ThreadLocalCodec(local):
    """A codec for each thread that reads."""

    def __init__(self, name: str, block_size: int) -> None:
        self.codec = Compression(name).codec(block_size)


def _make_decompressor(superblock: SquashfsSuperblock) -> Decompress:
    codecs = _ThreadLocalCodec(CompressorId(superblock.compressor).name.lower(), superblock.block_size)

    def decompress(stored: bytes, max_size: int) -> bytes:
        return bytes(codecs.codec.decompress(stored, max_size))

    return decompress


def _read_tables(file: ImageFile, decompress: Decompress, superblock: SquashfsSuperblock) -> ImageTables:
    """Read the tables from last to first: each ends where the next one begins."""

    def open_table(name: str, list_offset: int, count: int, entry_size: int) -> LookupTable:
        limits = range(superblock.directory_table, end)
        return LookupTable(
            file, decompress, name, list_offset=list_offset, count=count, entry_size=entry_size, limits=limits
        )

    end = superblock.bytes_used
    xattrs = fragments = exports = None
    if superblock.xattr_table != NO_TABLE:
        limits = range(superblock.id_table, end)
        xattrs = XattrReader.of(file, decompress, superblock.xattr_table, limits)
        end = xattrs.table.start
    id_table = open_table("id table", superblock.id_table, superblock.id_count, _ID_ENTRY.size)
    end = id_table.start
    if superblock.export_table != NO_TABLE:
        exports = open_table("export table", superblock.export_table, superblock.inode_count, EXPORT_ENTRY.size)
        end = exports.start
    if superblock.fragment_count:
        size = FragmentEntry.layout.size
        fragments = open_table("fragment table", superblock.fragment_table, superblock.fragment_count, size)
        end = fragments.start
    inodes = MetadataTable(file, decompress, "inode table", superblock.inode_table, superblock.directory_table)
    directories = MetadataTable(file, decompress, "directory table", superblock.directory_table, end)
    ids = tuple(number for data in id_table.blocks() for (number,) in _ID_ENTRY.iter_unpack(data))
    return ImageTables(ids, inodes, directories, fragments, exports, id_table, xattrs)
