"""The records and constants of squashfs 4.0 below the superblock. All numbers are little-endian.

Sources: doc/format.adoc of squashfs-tools-ng; fs/squashfs/squashfs_fs.h of Linux for the limits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self, assert_never

from ltsp.errors import FormatError
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Node, Socket, Symlink

U16 = int
I16 = int
U32 = int
U64 = int

_CODES: Final = {"U16": "H", "I16": "h", "U32": "I", "U64": "Q"}
"""`struct` formats by annotation text: evaluating the annotations would take much of the start-up time."""


class BinaryRecord:
    """Base of the records: frozen dataclasses whose annotations U16, I16, U32 and U64 are their layout.

        @dataclass(frozen=True, slots=True)
        class Point(BinaryRecord):
            x: U16
            y: U16

    `Point(1, 2).pack()` is four bytes, little-endian and without padding, and `Point.unpack` reads them back. A record
    may extend another one, whose fields then come first. Values are checked elsewhere.
    """

    __slots__ = ()

    layout: ClassVar[struct.Struct] = struct.Struct("<")
    """Its `size` is that of the record in bytes; hot loops use it directly for the bare numbers."""
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        base = cls.__base__
        assert base is not None
        assert issubclass(base, BinaryRecord)
        own = cls.__annotations__
        cls.layout = struct.Struct(base.layout.format + "".join(_CODES[own[name]] for name in own))
        cls.fields = (*base.fields, *own)

    def pack(self) -> bytes:
        """Raises struct.error if a value does not fit its field, which is a bug in the caller."""
        return self.layout.pack(*[getattr(self, name) for name in self.fields])

    @classmethod
    def unpack(cls, data: bytes | memoryview, at: int = 0) -> Self:
        """The record that begins at an offset of `data`, which may hold more.

        Raises FormatError if the data ends within it.
        """
        try:
            return cls(*cls.layout.unpack_from(data, at))
        except struct.error:
            available = max(len(data) - at, 0)
            raise FormatError(f"{cls.__name__} record is truncated: {available} of {cls.layout.size} bytes") from None


METADATA_SIZE = 8192
"""Bytes of a metadata block before compression; only the last one of a table is shorter."""
METADATA_STORED = 0x8000
"""Bit of a metadata block's header (16 bits, the stored size in bytes): the block is not compressed."""
BLOCK_STORED = 1 << 24
"""Bit of a data or fragment block's size word: the block is not compressed. A word of 0 is a block of zeros."""
NO_TABLE = 0xFFFF_FFFF_FFFF_FFFF
"""Offset of a table that the image does not have."""
NO_FRAGMENT = 0xFFFF_FFFF
"""Fragment index of a file whose end has its own block."""
NO_XATTRS = 0xFFFF_FFFF
"""Xattr index of an inode without attributes."""
MAX_NAME_SIZE = 255
"""Bytes of a file name; NAME_MAX of Linux. (The format has room for 256.)"""
MAX_TARGET_SIZE = 4095
"""Bytes of a symbolic link's target; PATH_MAX of Linux less its NUL."""
MAX_RUN_ENTRIES = 256
"""Entries below one directory header."""
LISTING_EXTRA = 3
"""A directory inode's listing size exceeds the bytes of its listing by this, for `.` and `..`."""
MIN_EXTENDED_LISTING_SIZE = 0xFFFF
"""Listing size, with LISTING_EXTRA, from which on a directory needs an extended inode."""


class InodeType(IntEnum):
    """Type of an inode. Directory entries always have the basic type."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3
    BLOCK_DEVICE = 4
    CHARACTER_DEVICE = 5
    FIFO = 6
    SOCKET = 7
    EXTENDED_DIRECTORY = 8
    EXTENDED_FILE = 9
    EXTENDED_SYMLINK = 10
    EXTENDED_BLOCK_DEVICE = 11
    EXTENDED_CHARACTER_DEVICE = 12
    EXTENDED_FIFO = 13
    EXTENDED_SOCKET = 14

    @property
    def basic(self) -> InodeType:
        return InodeType((self - 1) % 7 + 1)


@dataclass(frozen=True, slots=True)
class InodeHeader(BinaryRecord):
    """The common header of all inodes."""

    kind: U16
    """InodeType."""
    mode: U16
    """Permission bits, 0 to 0o7777; the type is not in it."""
    uid: U16
    """Index into the id table."""
    gid: U16
    """Index into the id table."""
    mtime: U32
    """Seconds since 1970, unsigned."""
    inode_number: U32
    """1 to the superblock's inode count, once each."""


@dataclass(frozen=True, slots=True)
class DirectoryInode(InodeHeader):
    block: U32
    """Place of the metadata block in which the listing begins, relative to the directory table."""
    links: U32
    """2 and the number of subdirectories."""
    listing_size: U16
    """Bytes of the listing before compression, and LISTING_EXTRA."""
    offset: U16
    """Of the listing within its first metadata block, before compression; 0 to 8191."""
    parent: U32
    """Inode number of the directory above; the root's is the inode count and one."""


@dataclass(frozen=True, slots=True)
class ExtendedDirectoryInode(InodeHeader):
    """Followed by `index_count` times a DirectoryIndex with its name."""

    links: U32
    listing_size: U32
    block: U32
    parent: U32
    index_count: U16
    offset: U16
    xattrs: U32
    """Index into the xattr id table, or NO_XATTRS."""


@dataclass(frozen=True, slots=True)
class DirectoryIndex(BinaryRecord):
    """Where to begin looking for a name; followed by that name."""

    position: U32
    """Bytes before the header within this directory's listing, before compression."""
    block: U32
    """Place of the metadata block that holds the header, relative to the directory table."""
    name_size: U32
    """Bytes of the name of the header's first entry, less one."""


@dataclass(frozen=True, slots=True)
class FileInode(InodeHeader):
    """Followed by a size word (U32) for each data block. Such a file has one link and no attributes."""

    start: U32
    """Place of the first data block in the image."""
    fragment: U32
    """Index into the fragment table, or NO_FRAGMENT."""
    offset: U32
    """Of the file's end within the fragment block, before compression."""
    file_size: U32
    """Bytes."""


@dataclass(frozen=True, slots=True)
class ExtendedFileInode(InodeHeader):
    """Followed by a size word (U32) for each data block."""

    start: U64
    file_size: U64
    sparse: U64
    """Bytes of the file that lie in holes, as Linux accounts for them in st_blocks."""
    links: U32
    fragment: U32
    offset: U32
    xattrs: U32


@dataclass(frozen=True, slots=True)
class SymlinkInode(InodeHeader):
    """Followed by the target and, in an extended inode, by the xattr index (U32)."""

    links: U32
    target_size: U32
    """Bytes."""


@dataclass(frozen=True, slots=True)
class DeviceInode(InodeHeader):
    """Followed, in an extended inode, by the xattr index (U32)."""

    links: U32
    device: U32
    """As `encode_device` makes it."""


@dataclass(frozen=True, slots=True)
class SpecialInode(InodeHeader):
    """A fifo or socket. Followed, in an extended inode, by the xattr index (U32)."""

    links: U32


@dataclass(frozen=True, slots=True)
class DirectoryHeader(BinaryRecord):
    """Begins a run of at most MAX_RUN_ENTRIES entries whose inodes begin in one metadata block."""

    count: U32
    """Entries that follow, less one."""
    block: U32
    """Place of the metadata block in which the inodes begin, relative to the inode table."""
    inode_number: U32
    """Inode number that the entries count from."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry(BinaryRecord):
    """Followed by the name. Entries of a directory are sorted by the bytes of their names."""

    offset: U16
    """Of the inode within its metadata block, before compression; 0 to 8191."""
    difference: I16
    """Inode number less that of the header."""
    kind: U16
    """Basic InodeType."""
    name_size: U16
    """Bytes of the name, less one."""


@dataclass(frozen=True, slots=True)
class FragmentEntry(BinaryRecord):
    start: U64
    """Place of the fragment block in the image."""
    stored: U32
    """Size word: bytes in the image, and BLOCK_STORED."""
    unused: U32 = 0


@dataclass(frozen=True, slots=True)
class XattrTable(BinaryRecord):
    """Lies at the superblock's `xattr_table`, followed by the places (U64) of the metadata blocks of XattrIds."""

    start: U64
    """Place of the first metadata block of attributes in the image."""
    count: U32
    """XattrIds."""
    unused: U32 = 0


@dataclass(frozen=True, slots=True)
class XattrId(BinaryRecord):
    """One set of attributes, which several inodes may share."""

    reference: U64
    """Of the first attribute, relative to `XattrTable.start`."""
    count: U32
    """Attributes."""
    size: U32
    """Bytes of the attributes in the table, before compression."""


@dataclass(frozen=True, slots=True)
class XattrKey(BinaryRecord):
    """Followed by the name without its prefix."""

    namespace: U16
    """Index into XATTR_PREFIXES, and XATTR_OUT_OF_LINE."""
    name_size: U16
    """Bytes of the name without its prefix."""


@dataclass(frozen=True, slots=True)
class XattrValue(BinaryRecord):
    """Followed by the value, or by the reference (U64) of the XattrValue that holds it."""

    value_size: U32
    """Bytes; 8 where a reference follows."""


XATTR_PREFIXES = ("user.", "trusted.", "security.")
"""The namespaces that squashfs keeps, by their number."""
XATTR_OUT_OF_LINE = 0x0100
"""Bit of XattrKey.namespace: a reference replaces the value."""
MAX_XATTR_VALUE_SIZE = 65536
"""Bytes of a value; XATTR_SIZE_MAX of Linux."""


def pack_reference(block: int, offset: int) -> int:
    """A location in a table: the offset of its metadata block, and the offset in that before compression."""
    return block << 16 | offset


def unpack_reference(value: int) -> tuple[int, int]:
    """Block and offset of a reference."""
    return value >> 16, value & 0xFFFF


def encode_device(major: int, minor: int) -> int:
    """A device number as Linux stores it in 32 bits: 12 bits of major, 20 of minor. new_encode_dev, linux/kdev_t.h"""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def decode_device(device: int) -> tuple[int, int]:
    """Major and minor."""
    return device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00


def basic_inode_type(node: Node) -> InodeType:
    """The type of a node in a directory entry, also if its inode is an extended one."""
    match node:
        case File():
            return InodeType.FILE
        case Directory():
            return InodeType.DIRECTORY
        case Symlink():
            return InodeType.SYMLINK
        case Device(kind=DeviceKind.BLOCK):
            return InodeType.BLOCK_DEVICE
        case Device():
            return InodeType.CHARACTER_DEVICE
        case Fifo():
            return InodeType.FIFO
        case Socket():
            return InodeType.SOCKET
        case _:
            assert_never(node)
