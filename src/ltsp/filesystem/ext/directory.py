"""Parse directory entries. Linux Documentation/filesystems/ext4/directory.rst

The inner blocks of an indexed directory look like empty blocks, so reading all blocks in order finds each entry once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ltsp.errors import FormatError
from ltsp.filesystem import checksum

_ENTRY = struct.Struct("<IHBB")
_TAIL, _TAIL_MARK = 12, b"\0\0\0\0\x0c\0\0\xde"
"""The checksum at the end of a block of entries, in the form of an unused entry."""
_OWN = frozenset({b".", b".."})


def parse_entries(data: bytes, block_size: int, typed: bool, seed: int | None = None) -> Iterator[tuple[bytes, int]]:
    """Names and inode numbers in blocks of a directory, except itself and its parent.

    `typed` says whether the byte after the name's length is a file type; without that feature it belongs to the length.
    `seed` is that of the checksums; None without checksums. Raises FormatError.
    """
    unpack = _ENTRY.unpack_from
    for block in range(0, len(data), block_size):
        at, end = block, min(block + block_size, len(data))
        while at < end:
            inode, length, size, more = unpack(data, at)
            if length in {0, 0xFFFF}:
                length = block_size  # blocks of 64 KiB
            elif block_size > 65535:
                length = length & 0xFFFC | (length & 3) << 16
            if not typed:
                size |= more << 8
            if length < 8 or length & 3 or at + length > end or size + 8 > length:
                raise FormatError(f"its entry at offset {at} is damaged")
            if seed is not None and at == end - _TAIL and data[at : at + 8] == _TAIL_MARK:
                if not checksum.matches_ext4(data[block:at], int.from_bytes(data[at + 8 : end], "little"), seed):
                    raise FormatError(f"its block at offset {block} is damaged: wrong checksum")
            elif inode:
                name = data[at + 8 : at + 8 + size]
                if name not in _OWN:
                    yield name, inode
            at += length
