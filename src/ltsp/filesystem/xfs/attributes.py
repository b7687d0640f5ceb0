"""Extended attributes of xfs, in all their forms. Linux fs/xfs/libxfs/xfs_attr_leaf.c, xfs_attr_remote.c, xfs_acl.c"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.filesystem import checksum
from ltsp.filesystem.attributes import acl, gathered
from ltsp.filesystem.runs import Run
from ltsp.filesystem.xfs.extents import runs
from ltsp.filesystem.xfs.inode import Fork, Format
from ltsp.filesystem.xfs.superblock import Superblock
from ltsp.storage.blocks import Blocks, read_exactly

_LOCAL, _ROOT, _SECURE, _PARENT, _INCOMPLETE = 0x1, 0x2, 0x4, 0x8, 0x80
_LEAVES = {0xFBEE: (12, 32), 0x3BEE: (56, 80)}
"""By magic number: where the count stands, and where the entries begin."""
_NODES = {0xFEBE: 16, 0x3EBE: 64}
"""Where the entries of an inner node begin."""
_ENTRY = struct.Struct(">IHBB")
_CHECKSUM_AT = 12
"""Of each kind of block, since version 5."""
_REMOTE_HEADER = 56
_REMOTE_MAGIC = b"XARM"
_MOST_VALUE = 65536
_MOST_BLOCKS = 4096
"""Leaves of one inode that are read: far more than 64 KiB of names need."""
_ACLS = {b"SGI_ACL_FILE": b"system.posix_acl_access", b"SGI_ACL_DEFAULT": b"system.posix_acl_default"}


def attributes(blocks: Blocks, superblock: Superblock, fork: Fork) -> dict[bytes, bytes]:
    """Full names and values, with those that the kernel shows for an access control list.

    Raises FormatError.
    """
    if fork.format == Format.LOCAL:
        found = _short(fork.data)
    elif fork.extents:
        found = _Leaves(blocks, superblock, runs(blocks, superblock, fork)).all()
    else:
        found = iter(())
    return gathered(_shown(found))


def _shown(found: Iterator[tuple[int, bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for flags, name, value in found:
        if flags & (_PARENT | _INCOMPLETE):
            continue
        if not name or b"\0" in name:
            raise FormatError("its attributes are damaged")
        prefix = b"trusted." if flags & _ROOT else b"security." if flags & _SECURE else b"user."
        yield prefix + name, value
        if flags & _ROOT and name in _ACLS:
            yield _ACLS[name], _acl(value)


def _acl(stored: bytes) -> bytes:
    count, *_ = struct.unpack_from(">I", stored)
    if 4 + 12 * count != len(stored):
        raise FormatError("an access control list is damaged")
    entries = [struct.unpack_from(">IIH", stored, at) for at in range(4, len(stored), 12)]
    return acl([(tag, permissions, identity) for tag, identity, permissions in entries])


def _short(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
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
class _Leaves:
    blocks: Blocks
    superblock: Superblock
    runs: list[Run]

    def all(self) -> Iterator[tuple[int, bytes, bytes]]:
        """From the first leaf along the chain of them."""
        block = self._block(0)
        seen = 0
        while (start := _NODES.get(_magic(block))) is not None:
            block = self._block(int.from_bytes(block[start + 4 : start + 8], "big"))
            seen += 1
            if seen > 5:
                raise FormatError("the index of its attributes is damaged")
        while True:
            yield from self._leaf(block)
            following = int.from_bytes(block[:4], "big")
            seen += 1
            if not following:
                return
            if seen > _MOST_BLOCKS:
                raise FormatError("its attributes are damaged: the list of their blocks has no end")
            block = self._block(following)

    def _leaf(self, block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        known = _LEAVES.get(_magic(block))
        if known is None:
            raise FormatError("a block of its attributes is damaged")
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
                if value_size > _MOST_VALUE or place + 9 + name_size > len(block):
                    raise FormatError("its attributes are damaged")
                yield flags, block[place + 9 : place + 9 + name_size], self._remote(first, value_size)

    def _remote(self, first: int, size: int) -> bytes:
        """A value in blocks of its own, each of which has a header since version 5."""
        header = _REMOTE_HEADER if self.superblock.version == 5 else 0
        pieces = []
        number = first
        while size > 0:
            block = self._block(number)
            if header and block[:4] != _REMOTE_MAGIC:
                raise FormatError("a value of its attributes is damaged")
            piece = block[header : header + size]
            pieces.append(piece)
            size -= len(piece)
            number += 1
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        size = self.superblock.block_size
        at = number * size
        for start, place, length in self.runs:
            if start <= at < start + length:
                block = read_exactly(self.blocks, place + at - start, size, "a block of attributes")
                if self.superblock.version == 5 and not checksum.is_right(block, _CHECKSUM_AT):
                    raise FormatError(f"block {number} of its attributes is damaged: the checksum is wrong")
                return block
        raise FormatError(f"block {number} of its attributes lies nowhere")


def _magic(block: bytes) -> int:
    return int.from_bytes(block[8:10], "big")
