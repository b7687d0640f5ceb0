"""Read the entries of an xfs directory. Linux fs/xfs/libxfs/xfs_da_format.h

They are in the inode, or in the first 32 GiB of the directory; what follows is only an index.
"""

from __future__ import annotations

from collections.abc import Iterator

from ltsp.errors import FormatError
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import DataRun, map_runs

_INDEX_OFFSET = 1 << 35
"""Offset of the index in bytes."""
_HEADER_SIZE = {b"XD2B": 16, b"XD2D": 16, b"XDB3": 64, b"XDD3": 64}
_CHECKED_HEADER_SIZE = 64
"""Size of the header, by magic number: larger with a checksum."""
_WITH_TAIL = frozenset({b"XD2B", b"XDB3"})
"""Magic numbers of single-block directories, which end with the index."""
_FREE_TAG = b"\xff\xff"
_DOT_ENTRIES = frozenset({b".", b".."})


def parse_shortform_entries(data: bytes, has_types: bool) -> Iterator[tuple[bytes, int]]:
    """The entries of a directory in its inode, which has none for itself and its parent. Raises FormatError."""
    count, wide = data[0], data[1]
    size = 8 if wide else 4
    at = 2 + size
    for _ in range(count or wide):
        length = data[at]
        name = data[at + 3 : at + 3 + length]
        at += 3 + length + has_types
        if at + size > len(data):
            raise FormatError("its entries are damaged")
        yield name, int.from_bytes(data[at : at + size], "big")
        at += size


def read_entries(blocks: Blocks, runs: list[DataRun], block_size: int, has_types: bool) -> Iterator[tuple[bytes, int]]:
    """The entries of a directory in blocks.

    Raises FormatError.
    """
    mapped = map_runs(blocks, _INDEX_OFFSET, runs)
    following = 0
    for start, _, length in runs:
        if start >= _INDEX_OFFSET:
            break
        for number in range(max(start // block_size, following), -(-(start + length) // block_size)):
            yield from _parse_block(mapped.read_at(number * block_size, block_size), has_types)
            following = number + 1


def _parse_block(data: bytes, has_types: bool) -> Iterator[tuple[bytes, int]]:
    magic = data[:4]
    at = _HEADER_SIZE.get(magic, 0)
    end = len(data)
    if not at or (at == _CHECKED_HEADER_SIZE and not checksum.matches_xfs(data, 4)):
        raise FormatError("one of its blocks is damaged")
    if magic in _WITH_TAIL:
        end -= 8 + 8 * int.from_bytes(data[-8:-4], "big")
    while at < end:
        if data[at : at + 2] == _FREE_TAG:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
        else:
            size = data[at + 8]
            length = (size + 11 + has_types + 7) & ~7
            if at + length <= end:
                name = data[at + 9 : at + 9 + size]
                if name not in _DOT_ENTRIES:
                    yield name, int.from_bytes(data[at : at + 8], "big")
        if length < 8 or length & 7 or at + length > end:
            raise FormatError(f"its entry at offset {at} of a block is damaged")
        at += length
