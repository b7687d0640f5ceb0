"""Reading from files that may be shorter than their tables claim."""

from __future__ import annotations

import pytest

from ltsp.errors import FormatError
from ltsp.storage.blocks import MemoryBlocks, read_exactly, read_pieces


class Shrunk:
    size = 100

    def read_at(self, offset, size):
        return bytes(min(size, 50 - offset))


def test_a_range_beyond_the_end_is_named():
    assert read_exactly(MemoryBlocks(b"abc"), 1, 2, "the map") == b"bc"
    for offset, size in ((2, 2), (-1, 2), (4, 0), (1, -1)):
        with pytest.raises(
            FormatError, match=rf"the map at {offset} extends beyond the end of the file or volume \(3 bytes\)"
        ):
            read_exactly(MemoryBlocks(b"abc"), offset, size, "the map")
    with pytest.raises(FormatError, match="the map at 40 is truncated"):
        read_exactly(Shrunk(), 40, 20, "the map")


def test_no_size_that_is_claimed_takes_the_memory():
    with pytest.raises(FormatError, match="the map is too large: 1099511627776 bytes"):
        read_exactly(Shrunk(), 0, 1 << 40, "the map")


def test_all_pieces_are_the_whole():
    data = bytes(range(256)) * 5000
    assert b"".join(read_pieces(MemoryBlocks(data))) == data
