"""The superblock, the first 96 bytes of an image: its parameters and the offsets of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import pairwise
from typing import Final, Self

from ltsp.errors import FormatError
from ltsp.squashfs.format import METADATA_SIZE, NO_TABLE, U16, U32, U64, BinaryRecord, InodeHeader, unpack_reference

MAGIC = 0x73717368
"""`hsqs`."""
MIN_BLOCK_SIZE = 4096
MAX_BLOCK_SIZE = 1 << 20
PADDING = 4096
"""Images are padded with zeros to a multiple of this many bytes, so that a loop device can mount them."""


class CompressorId(IntEnum):
    GZIP = 1
    """A zlib stream."""
    LZMA = 2
    """A .lzma stream; never supported by Linux."""
    LZO = 3
    XZ = 4
    LZ4 = 5
    ZSTD = 6


class Flags(IntFlag):
    """How the image was written. Readers need only COMPRESSOR_OPTIONS."""

    STORED_INODES = 0x0001
    STORED_DATA = 0x0002
    STORED_FRAGMENTS = 0x0008
    NO_FRAGMENTS = 0x0010
    ALWAYS_FRAGMENTS = 0x0020
    DUPLICATES = 0x0040
    """Files with the same content share it."""
    EXPORTABLE = 0x0080
    """There is an export table."""
    STORED_XATTRS = 0x0100
    NO_XATTRS = 0x0200
    COMPRESSOR_OPTIONS = 0x0400
    """The superblock is followed by an uncompressed metadata block with compressor options."""
    STORED_IDS = 0x0800


STORED: Final = Flags.STORED_INODES | Flags.STORED_DATA | Flags.STORED_FRAGMENTS | Flags.STORED_XATTRS
"""Of an image in which nothing is compressed."""


@dataclass(frozen=True, slots=True)
class SquashfsSuperblock(BinaryRecord):
    magic: U32
    inode_count: U32
    mtime: U32
    """Seconds since 1970, unsigned."""
    block_size: U32
    """Bytes of a data block; a power of two, MIN_BLOCK_SIZE to MAX_BLOCK_SIZE."""
    fragment_count: U32
    compressor: U16
    """CompressorId."""
    block_log: U16
    """Base-2 logarithm of the block size."""
    flags: U16
    """Flags."""
    id_count: U16
    """User and group ids in use, 1 to 65535."""
    major: U16
    """4."""
    minor: U16
    """0."""
    root: U64
    """Reference of the root inode."""
    bytes_used: U64
    """Size of the image in bytes, without the padding."""
    id_table: U64
    """Offset of the list of the id table's metadata blocks; the same for fragments and exports."""
    xattr_table: U64
    """Offset of the XattrTable, or NO_TABLE."""
    inode_table: U64
    """Offset of the first metadata block."""
    directory_table: U64
    """Offset of the first metadata block."""
    fragment_table: U64
    """Or NO_TABLE."""
    export_table: U64
    """Or NO_TABLE."""

    @classmethod
    def parse(cls, raw: bytes, file_size: int) -> Self:
        """The superblock at the start of a file of `file_size` bytes.

        Raises FormatError if it is inconsistent with itself or the file. Linux squashfs_fill_super
        """
        if len(raw) < cls.layout.size or raw[:4] != MAGIC.to_bytes(4, "little"):
            raise FormatError("not a squashfs image: it has no superblock")
        superblock = cls.unpack(raw)
        for fault in _find_faults(superblock, file_size):
            raise FormatError(f"superblock is damaged: {fault}")
        return superblock


def _find_faults(superblock: SquashfsSuperblock, file_size: int) -> Iterator[str]:
    if (superblock.major, superblock.minor) != (4, 0):
        yield f"unsupported version {superblock.major}.{superblock.minor}: only 4.0 is supported"
    if superblock.compressor not in CompressorId.__members__.values():
        yield f"unknown compressor {superblock.compressor}"
    size, log = superblock.block_size, superblock.block_log
    if not MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE or log >= size.bit_length() or size != 1 << log:
        yield f"invalid block size {size} with logarithm {log}"
    used = superblock.bytes_used
    if used > file_size:
        yield f"the image is {used} bytes long, but the file only {file_size}"
    # A metadata block has at least three bytes, so no byte of an image decompresses to more than a whole block.
    if not 1 <= superblock.inode_count <= used * METADATA_SIZE // InodeHeader.layout.size:
        yield f"invalid inode count: {superblock.inode_count} inodes in {used} bytes"
    if superblock.fragment_count > used:
        yield f"invalid fragment count: {superblock.fragment_count} fragment blocks in {used} bytes"
    if not superblock.id_count:
        yield "the id table has no entries"
    for (before, low), (after, high) in pairwise(_table_offsets(superblock)):
        if low > high:
            yield f"the {after} at {high} is before the {before} at {low}"
    block, offset = unpack_reference(superblock.root)
    if superblock.inode_table + block >= superblock.directory_table or offset >= METADATA_SIZE:
        yield f"the root inode is outside of the inode table, at {block}:{offset}"


def _table_offsets(superblock: SquashfsSuperblock) -> Iterator[tuple[str, int]]:
    """The parts of the image, in the order that Linux requires."""
    yield "end of the superblock", superblock.layout.size
    yield "inode table", superblock.inode_table
    yield "directory table", superblock.directory_table
    if superblock.fragment_count:
        yield "fragment table", superblock.fragment_table
    if superblock.export_table != NO_TABLE:
        yield "export table", superblock.export_table
    yield "id table", superblock.id_table
    if superblock.xattr_table != NO_TABLE:
        yield "xattr table", superblock.xattr_table
    yield "end of the image", superblock.bytes_used
