"""Read the extended attributes of xfs. Linux fs/xfs/libxfs/xfs_attr_leaf.c, xfs_attr_remote.c, xfs_acl.c"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.filesystem.attributes import collect_attributes, pack_acl
from ltsp.filesystem.xfs.inode import Fork, ForkFormat, runs
from ltsp.filesystem.xfs.superblock import XfsSuperblock
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun

_LOCAL, _ROOT, _SECURE, _PARENT, _INCOMPLETE = 0x1, 0x2, 0x4, 0x8, 0x80
_LEAF_LAYOUTS = {0xFBEE: (12, 32), 0x3BEE: (56, 80)}
"""By magic number: the offsets of the count and of the entries."""
_NODE_ENTRY_OFFSETS = {0xFEBE: 16, 0x3EBE: 64}
"""Offset of the entries of an inner node."""
_ENTRY = struct.Struct(">IHBB")
_CHECKSUM_OFFSET = 12
"""Magic numbers of the blocks in version 5."""
_REMOTE_HEADER_SIZE = 56
_REMOTE_MAGIC = b"XARM"
_MAX_VALUE_SIZE = 65536
_MAX_LEAVES = 4096
"""Leaves to read for one inode: far more than 64 KiB of names need."""
_ACLS = {b"SGI_ACL_FILE": b"system.posix_acl_access", b"SGI_ACL_DEFAULT": b"system.posix_acl_default"}


def read_attributes(blocks: Blocks, superblock: XfsSuperblock, fork: Fork) -> dict[bytes, bytes]:
    """Full names and values, with ACLs as the kernel shows them.

    Raises FormatError.
    """
    if fork.format == ForkFormat.LOCAL:
        found = _parse_shortform(fork.data)
    elif fork.extent_count:
        found = _AttributeLeaves(blocks, superblock, runs(blocks, superblock, fork)).read_all()
    else:
        found = iter(())
    return collect_attributes(_qualify_names(found))


def _qualify_names(found: Iterator[tuple[int, bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for flags, name, value in found:
        if flags & (_PARENT | _INCOMPLETE):
            continue
        if not name or b"\0" in name:
            raise FormatError("its attributes are damaged")
        prefix = b"trusted." if flags & _ROOT else b"security." if flags & _SECURE else b"user."
        yield prefix + name, value
        if flags & _ROOT and name in _ACLS:
            yield _ACLS[name], _convert_acl(value)


def _convert_acl(stored: bytes) -> bytes:
    count, *_ = struct.unpack_from(">I", stored)
    if 4 + 12 * count != len(stored):
        raise FormatError("an access control list is damaged")
    entries = [struct.unpack_from(">IIH", stored, at) for at in range(4, len(stored), 12)]
    return pack_acl([(tag, permissions, identity) for tag, identity, permissions in entries])


def _parse_shortform(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    size, count = struct.unpack_from(">HB", data)
    if size > len(data):
        raise FormatError("its attributes are damaged")
    at = 4
    for _ in range(count):
        name_size, value_size, flags = data[at : at + 3]
        at += 3
        name, value = data[at : at + name_size], data[at + name_size : at + name_size + value_size]
        at += name_size + value_size
        if at > size:
            raise FormatError("its attributes are damaged")
        yield flags, name, value


@dataclass(slots=True)
class _AttributeLeaves:
    blocks: Blocks
    superblock: XfsSuperblock
    runs: list[DataRun]

    def read_all(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Attributes of all leaves, from the first along the chain."""
        block = self._read_block(0)
        seen = 0
        while (start := _NODE_ENTRY_OFFSETS.get(_read_magic(block))) is not None:
            block = self._read_block(int.from_bytes(block[start + 4 : start + 8], "big"))
            seen += 1
            if seen > 5:
                raise FormatError("the index of its attributes is damaged")
        while True:
            yield from self._parse_leaf(block)
            following = int.from_bytes(block[:4], "big")
            seen += 1
            if not following:
                return
            if seen > _MAX_LEAVES:
                raise FormatError("its extended attributes are damaged: the chain of blocks is too long")
            block = self._read_block(following)

    def _parse_leaf(self, block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        known = _LEAF_LAYOUTS.get(_read_magic(block))
        if known is None:
            raise FormatError("an attribute block is damaged")
        count_at, start = known
        count = int.from_bytes(block[count_at : count_at + 2], "big")
        for at in range(start, start + 8 * count, 8):
            _, place, flags, _ = _ENTRY.unpack_from(block, at)
            if flags & _LOCAL:
                value_size, name_size = struct.unpack_from(">HB", block, place)
                end = place + 3 + name_size
                if end + value_size > len(block):
                    raise FormatError("its attributes are damaged")
                yield flags, block[place + 3 : end], block[end : end + value_size]
            elif not flags & _INCOMPLETE:
                first, value_size, name_size = struct.unpack_from(">IIB", block, place)
                if value_size > _MAX_VALUE_SIZE or place + 9 + name_size > len(block):
                    raise FormatError("its attributes are damaged")
                yield flags, block[place + 9 : place + 9 + name_size], self._read_remote_value(first, value_size)

    def _read_remote_value(self, first: int, size: int) -> bytes:
        """A value in blocks of its own, each with a header in version 5."""
        header = _REMOTE_HEADER_SIZE if self.superblock.version == 5 else 0
        pieces = []
        number = first
        while size > 0:
            block = self._read_block(number)
            if header and block[:4] != _REMOTE_MAGIC:
                raise FormatError("an attribute value is damaged")
            piece = block[header : header + size]
            pieces.append(piece)
            size -= len(piece)
            number += 1
        return b"".join(pieces)

    def _read_block(self, number: int) -> bytes:
        size = self.superblock.block_size
        at = number * size
        for start, place, length in self.runs:
            if start <= at < start + length:
                block = read_exactly(self.blocks, place + at - start, size, "an attribute block")
                if self.superblock.version == 5 and not checksum.matches_xfs(block, _CHECKSUM_OFFSET):
                    raise FormatError(f"block {number} of its attributes is damaged: wrong checksum")
                return block
        raise FormatError(f"block {number} of its attributes is not mapped")


def _read_magic(block: bytes) -> int:
    return int.from_bytes(block[8:10], "big")
