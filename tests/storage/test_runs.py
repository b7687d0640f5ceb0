from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltsp.errors import FormatError
from ltsp.filesystem.tree_reader import RecordReader
from ltsp.storage.blocks import read_exactly
from ltsp.storage.extents import ExtentStream, add_run, map_runs, read_runs


@dataclass
class Memory:
    data: bytes

    @property
    def size(self):
        return len(self.data)

    def read_at(self, offset, size):
        return self.data[offset : offset + size]


VOLUME = Memory(bytes(range(1, 251)) * 8)
PIECES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60), st.integers(0, 1900)), max_size=8)
"""A hole, then data: their lengths, and where the data lies."""


@given(PIECES, st.integers(0, 60), st.lists(st.integers(1, 90), max_size=60))
def test_reading_in_any_pieces_gives_data_and_zeros(pieces, end, reads):
    runs, expected = [], b""
    for hole, length, place in pieces:
        expected += bytes(hole)
        add_run(runs, len(expected), place, length)
        expected += VOLUME.read_at(place, length)
    expected += bytes(end)
    stream = ExtentStream(map_runs(VOLUME, len(expected), runs))
    found = b""
    for size in [*reads, len(expected)]:
        if hole := stream.hole_size():
            assert not any(expected[len(found) : len(found) + hole])
            passed = min(hole, size)
            stream.skip(passed)
            found += bytes(passed)
        else:
            piece = stream.read(size)
            assert len(piece) == min(size, len(expected) - len(found))
            found += piece
    found += stream.read(len(expected))
    assert found == expected
    assert stream.read(1) == b""
    assert stream.hole_size() == 0


def test_runs_that_go_on_from_each_other_are_joined():
    runs = []
    add_run(runs, 0, 100, 10)
    add_run(runs, 10, 110, 10)
    add_run(runs, 20, 200, 10)
    add_run(runs, 40, 210, 10)
    assert runs == [(0, 100, 20), (20, 200, 10), (40, 210, 10)]


def test_data_beyond_the_end_of_the_volume_is_damage():
    with pytest.raises(FormatError, match="beyond the end of the volume"):
        read_runs(VOLUME, 100, [(0, VOLUME.size - 50, 100)])
    with pytest.raises(FormatError, match="the map at 1990 extends beyond the end"):
        read_exactly(VOLUME, 1990, 20, "the map")


def test_a_record_across_two_chunks_is_complete():
    volume = Memory(bytes(range(256)) * 1024)
    records = RecordReader(volume)
    for place in (0, (64 << 10) - 3, (128 << 10) - 8, volume.size - 8):
        assert records.read(place, 8, "a record") == volume.read_at(place, 8)
    with pytest.raises(FormatError, match="a record at 262140 extends beyond"):
        records.read(volume.size - 4, 8, "a record")
