from __future__ import annotations

import pytest

from ltsp.disk.blocks import BlockRange, BlockRun, FileBlocks, LazyBlocks, MappedBlocks, MemoryBlocks
from ltsp.storage.extents import HOLE, Extent, NotInFiles, extents, merge_extents


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    with (tmp_path / "file").open("rb") as opened:
        yield FileBlocks.of(opened)


def test_windows_and_runs_lead_to_places_in_the_file(file):
    runs = {
        0: BlockRun(10, file, 500),
        10: BlockRun(10, file, 510),
        20: BlockRun(5),
        25: BlockRun(5),
        30: BlockRun(10, BlockRange(file, 100, 50), 7),
    }
    scattered = MappedBlocks(40, lambda offset, _size: runs[offset])
    assert merge_extents(extents(scattered, 0, 40), 9) == [
        Extent(file.descriptor, 500, 20),
        Extent(HOLE, 0, 10),
        Extent(file.descriptor, 107, 10),
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
            list(extents(blocks, 0, 10))
    with pytest.raises(NotInFiles):
        list(extents(file, -1, 5))


def test_too_many_pieces_are_not_listed():
    pieces = [Extent(5, place, 1) for place in range(0, 20, 2)]
    assert merge_extents(iter(pieces), 10) == pieces
    with pytest.raises(NotInFiles):
        merge_extents(iter(pieces), 9)
