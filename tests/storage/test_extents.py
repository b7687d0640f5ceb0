from __future__ import annotations

import pytest

from ltsp.storage.blocks import FileBlocks, LazyBlocks, MemoryBlocks
from ltsp.storage.extents import (
    HOLE,
    BlockRange,
    Extent,
    FileRange,
    MappedBlocks,
    NotInFiles,
    find_file_ranges,
    join_ranges,
)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    with (tmp_path / "file").open("rb") as opened:
        yield FileBlocks.of(opened)


def test_windows_and_runs_lead_to_places_in_the_file(file):
    runs = {
        0: Extent(10, file, 500),
        10: Extent(10, file, 510),
        20: Extent(5),
        25: Extent(5),
        30: Extent(10, BlockRange(file, 100, 50), 7),
    }
    scattered = MappedBlocks(40, lambda offset, _size: runs[offset])
    assert join_ranges(find_file_ranges(scattered, 0, 40), 9) == [
        FileRange(file.descriptor, 500, 20),
        FileRange(HOLE, 0, 10),
        FileRange(file.descriptor, 107, 10),
    ]


def test_generated_bytes_and_those_beyond_the_end_are_in_no_file(file):
    def never():
        raise AssertionError

    for blocks in (
        MemoryBlocks(b"x" * 10),
        LazyBlocks(10, never),
        BlockRange(file, 995, 10),
        BlockRange(MemoryBlocks(b""), 0, 10),
    ):
        with pytest.raises(NotInFiles):
            list(find_file_ranges(blocks, 0, 10))
    with pytest.raises(NotInFiles):
        list(find_file_ranges(file, -1, 5))


def test_too_many_pieces_are_not_listed():
    pieces = [FileRange(5, place, 1) for place in range(0, 20, 2)]
    assert join_ranges(iter(pieces), 10) == pieces
    with pytest.raises(NotInFiles):
        join_ranges(iter(pieces), 9)
