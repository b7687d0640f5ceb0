"""Parse the items of btrfs trees. Linux include/uapi/linux/btrfs_tree.h"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.errors import FormatError

INODE_ITEM, INODE_REF, XATTR_ITEM, DIR_ITEM, DIR_INDEX, EXTENT_DATA, EXTENT_CSUM = 1, 12, 24, 84, 96, 108, 128
ROOT_ITEM, ROOT_BACKREF, ROOT_REF, CHUNK_ITEM = 132, 144, 156, 228
OFFSET_END = 1 << 64
"""Above every offset."""

_INODE = struct.Struct("<QQQQQIIIIQQ")
_INODE_SIZE = 160
_MTIME = struct.Struct("<q")
_MTIME_OFFSET = 136
_NODATASUM = 1
"""Flag of an inode."""
_DIR_ITEM = struct.Struct("<QBQQHHB")
_EXTENT = struct.Struct("<QQBBHB")
_EXTENT_PLACE = struct.Struct("<QQQQ")
_ROOT_REF = struct.Struct("<QQH")
_ROOT_SIZE = 239


@dataclass(frozen=True, slots=True)
class BtrfsInode:
    size: int
    stored: int
    """Bytes."""
    links: int
    uid: int
    gid: int
    mode: int
    device: int
    mtime: int
    """Seconds since 1970."""
    has_checksums: bool
    """Whether its data has checksums: not with chattr +C or nodatasum."""

    @classmethod
    def parse(cls, data: bytes) -> BtrfsInode:
        if len(data) < _INODE_SIZE:
            raise FormatError("its inode is truncated")
        _, _, size, stored, _, links, uid, gid, mode, device, flags = _INODE.unpack_from(data)
        (mtime,) = _MTIME.unpack_from(data, _MTIME_OFFSET)
        return cls(size, stored, links, uid, gid, mode, device, mtime, not flags & _NODATASUM)


@dataclass(frozen=True, slots=True)
class DirItem:
    """A directory entry or an attribute."""

    target: tuple[int, int]
    """Object and type of the key to which an entry refers."""
    name: bytes
    value: bytes


def parse_dir_items(data: bytes) -> Iterator[DirItem]:
    """All entries in an item: names with the same hash share one."""
    at = 0
    while at < len(data):
        target, kind, _, _, value_size, name_size, _ = _DIR_ITEM.unpack_from(data, at)
        at += _DIR_ITEM.size
        middle, end = at + name_size, at + name_size + value_size
        if end > len(data):
            raise FormatError("a directory item is truncated")
        yield DirItem((target, kind), data[at:middle], data[middle:end])
        at = end


@dataclass(frozen=True, slots=True)
class FileExtent:
    """A piece of a file."""

    start: int
    """Offset in the file, in bytes."""
    ram_bytes: int
    """Bytes of the whole extent after decompression."""
    compression: int
    inline: bytes | None
    """The data of an inline extent."""
    address: int = 0
    """0 for a hole."""
    stored: int = 0
    offset: int = 0
    """Offset of the piece in the decompressed extent."""
    length: int = 0
    is_written: bool = True

    @classmethod
    def parse(cls, start: int, data: bytes) -> FileExtent:
        _, decompressed_size, compression, encryption, other, kind = _EXTENT.unpack_from(data)
        if encryption or other or kind > 2:
            raise FormatError("one of its extents has an unknown type")
        rest = data[_EXTENT.size :]
        if not kind:
            length = decompressed_size if compression else len(rest)
            return cls(start, decompressed_size, compression, rest, length=length)
        address, stored, offset, length = _EXTENT_PLACE.unpack(rest)
        return cls(start, decompressed_size, compression, None, address, stored, offset, length, kind == 1)


def parse_root_ref(data: bytes) -> tuple[int, bytes]:
    """Directory and name of a subvolume."""
    directory, _, size = _ROOT_REF.unpack_from(data)
    name = data[_ROOT_REF.size : _ROOT_REF.size + size]
    if len(name) < size:
        raise FormatError("the name of a subvolume is truncated")
    return directory, name


def parse_root_item(data: bytes) -> tuple[int, int, int, int, int]:
    """Address, level and generation of a tree, its first directory, and how many names it has."""
    if len(data) < _ROOT_SIZE:
        raise FormatError("a root item is truncated")
    generation, directory, address = struct.unpack_from("<QQQ", data, 160)
    (names,) = struct.unpack_from("<I", data, 216)
    return address, data[238], generation, directory, names
