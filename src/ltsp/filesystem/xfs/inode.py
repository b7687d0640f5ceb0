"""Parse an xfs inode, and read the extents of its forks, from a list in the inode or a tree.

Linux fs/xfs/libxfs/xfs_format.h, struct xfs_dinode; xfs_bmap_btree.c
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from ltsp.errors import FormatError
from ltsp.filesystem.xfs.superblock import XfsSuperblock
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun

_CORE = struct.Struct(">2sHBBHIIIHHQqqqQQIIHBbIHHII")
_CORE_SIZE = 100
_CORE_V3_SIZE = 176
_CHECKSUM_OFFSET = 100
_REALTIME = 0x1
_BIGTIME = 1 << 3
_LARGE_COUNTS = 1 << 4
_NS_PER_SECOND = 1_000_000_000
_BIGTIME_EPOCH = -(1 << 31)
"""Seconds before 1970 at which big timestamps start."""


class ForkFormat(IntEnum):
    """The content of a fork in the inode."""

    DEVICE = 0
    LOCAL = 1
    EXTENTS = 2
    TREE = 3


@dataclass(frozen=True, slots=True)
class Fork:
    """The data or attribute fork of an inode."""

    format: int
    data: bytes
    extent_count: int


@dataclass(frozen=True, slots=True)
class XfsInode:
    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    """Seconds since 1970."""
    size: int
    blocks: int
    is_realtime: bool
    """Whether its content is on the realtime device."""
    content: Fork
    attributes: Fork | None

    @classmethod
    def parse(cls, raw: bytes, number: int) -> XfsInode:
        """Raises FormatError if it is not an inode, or has another number."""
        (
            magic, mode, version, form, old_links, uid, gid, links, _, _, large_count, _, mtime, _, size, blocks,
            _, count, attribute_count, offset, attribute_form, _, _, flags, _, _,
        ) = _CORE.unpack_from(raw)  # fmt: skip
        if magic != b"IN" or version not in {1, 2, 3}:
            raise FormatError(f"inode {number} has no valid magic number")
        flags2, start = 0, _CORE_SIZE
        if version == 3:
            flags2, start = int.from_bytes(raw[120:128], "big"), _CORE_V3_SIZE
            if not checksum.matches_xfs(raw, _CHECKSUM_OFFSET):
                raise FormatError(f"inode {number} is damaged: wrong checksum")
            if int.from_bytes(raw[152:160], "big") != number:
                raise FormatError(f"inode {number} is damaged: it records another number")
        if flags2 & _LARGE_COUNTS:
            count, attribute_count = large_count, count
        unsigned = mtime & (1 << 64) - 1
        seconds = unsigned // _NS_PER_SECOND + _BIGTIME_EPOCH if flags2 & _BIGTIME else mtime >> 32
        attributes_start = start + 8 * offset if offset else len(raw)
        if attributes_start > len(raw):
            raise FormatError(f"inode {number} is damaged: its attributes are outside of it")
        return cls(
            number=number,
            mode=mode,
            uid=uid,
            gid=gid,
            links=old_links if version == 1 else links,
            mtime=seconds,
            size=size,
            blocks=blocks,
            is_realtime=bool(flags & _REALTIME),
            content=Fork(form, raw[start:attributes_start], count),
            attributes=Fork(attribute_form, raw[attributes_start:], attribute_count) if offset else None,
        )


_RECORD = struct.Struct(">QQ")
_HEADER = struct.Struct(">4sHH")
_MAGIC = {4: b"BMAP", 5: b"BMA3"}
_HEADER_SIZE = {4: 24, 5: 72}
_TREE_CHECKSUM_AT = 64
_DEEPEST = 9
_UNWRITTEN = 1 << 63


def runs(blocks: Blocks, superblock: XfsSuperblock, fork: Fork) -> list[DataRun]:
    """The written extents of a fork, in order, one run each.

    Raises FormatError. Each extent must follow the previous one, so that a looping tree ends.
    """
    found: list[DataRun] = []
    following = 0
    size = superblock.block_size
    for high, low in _read_records(blocks, superblock, fork):
        start = high >> 9 & (1 << 54) - 1
        block = (high & 0x1FF) << 43 | low >> 21
        count = low & (1 << 21) - 1
        if start < following or not count:
            raise FormatError("its extents are damaged: they overlap")
        following = start + count
        place = superblock.locate_blocks(block, count)
        if not high & _UNWRITTEN:
            found.append((start * size, place, count * size))
    return found


def _read_records(blocks: Blocks, superblock: XfsSuperblock, fork: Fork) -> Iterator[tuple[int, int]]:
    if fork.format == ForkFormat.EXTENTS:
        size = fork.extent_count * _RECORD.size
        if size > len(fork.data):
            raise FormatError(f"its inode claims {fork.extent_count} extents")
        yield from _RECORD.iter_unpack(fork.data[:size])
        return
    if fork.format != ForkFormat.TREE:
        raise FormatError(f"its fork format {fork.format} is invalid")
    level, count = struct.unpack_from(">HH", fork.data)
    if not 0 < level <= _DEEPEST:
        raise FormatError(f"its extent tree is damaged: it has {level} levels")
    pending = [(block, level - 1) for block in _parse_pointers(fork.data, 4, count)]
    header = _HEADER_SIZE[superblock.version]
    while pending:
        block, level = pending.pop()
        node = read_exactly(blocks, superblock.locate_blocks(block), superblock.block_size, "a block map")
        magic, height, count = _HEADER.unpack_from(node)
        if magic != _MAGIC[superblock.version] or height != level or not count:
            raise FormatError(f"its extent tree is damaged at block {block}")
        if superblock.version == 5 and not checksum.matches_xfs(node, _TREE_CHECKSUM_AT):
            raise FormatError(f"its extent tree is damaged at block {block}: wrong checksum")
        if level:
            pending.extend((below, level - 1) for below in _parse_pointers(node, header, count))
            continue
        records = node[header : header + count * _RECORD.size]
        if len(records) < count * _RECORD.size:
            raise FormatError(f"its extent tree is damaged at block {block}")
        yield from _RECORD.iter_unpack(records)


def _parse_pointers(node: bytes, header: int, count: int) -> list[int]:
    """The child blocks of a node, last first; the pointers follow the space for all keys."""
    max_records = (len(node) - header) // 16
    if count > max_records:
        raise FormatError(f"its extent tree is damaged: a node claims {count} entries")
    start = header + 8 * max_records
    return [int.from_bytes(node[at : at + 8], "big") for at in range(start + 8 * (count - 1), start - 8, -8)]
