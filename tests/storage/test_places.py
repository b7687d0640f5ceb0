"""The map of a volume, which decides whether the kernel reads it in place or from a copy."""

from __future__ import annotations

import os
import random

import pytest

from ltsp.storage.blocks import FileBlocks, MemoryBlocks
from ltsp.storage.extents import BlockRange, Extent, MappedBlocks, find_contiguous_range, find_data_ranges

PAGE = 4096


@pytest.fixture
def sparse(tmp_path):
    """64 pages, of which the second and the tenth to the twelfth are stored."""
    with (tmp_path / "disk").open("w+b", buffering=0) as file:
        file.truncate(64 * PAGE)
        for at, size in ((1, 1), (9, 3)):
            os.pwrite(file.fileno(), b"x" * size * PAGE, at * PAGE)
        yield FileBlocks.of(file)


def laid(size, *runs):
    """An image of runs, each of (place, size, blocks, offset)."""

    def run(offset, length):
        for place, extent, blocks, start in runs:
            if place <= offset < place + extent:
                within = offset - place
                return Extent(min(length, extent - within), blocks, start + within)
        raise AssertionError(offset)

    return MappedBlocks(size, run)


def test_a_window_of_a_file_is_contiguous(sparse):
    inner = BlockRange(BlockRange(sparse, PAGE, 60 * PAGE), 3 * PAGE, 5 * PAGE)
    assert find_contiguous_range(inner) == (sparse.descriptor, 4 * PAGE, 5 * PAGE)
    assert find_contiguous_range(sparse) == (sparse.descriptor, 0, 64 * PAGE)


def test_a_linear_volume_is_contiguous_and_one_of_two_segments_is_not(sparse):
    linear = laid(8 * PAGE, (0, 8 * PAGE, BlockRange(sparse, PAGE, 60 * PAGE), 2 * PAGE))
    assert find_contiguous_range(linear) == (sparse.descriptor, 3 * PAGE, 8 * PAGE)
    assert find_contiguous_range(BlockRange(linear, PAGE, PAGE)) == (sparse.descriptor, 4 * PAGE, PAGE)
    two = laid(8 * PAGE, (0, 4 * PAGE, sparse, 0), (4 * PAGE, 4 * PAGE, sparse, 5 * PAGE))
    assert find_contiguous_range(two) is None
    assert find_contiguous_range(BlockRange(two, 0, 4 * PAGE)) == (sparse.descriptor, 0, 4 * PAGE)


@pytest.mark.parametrize("what", ["hole", "memory", "beyond", "nothing"])
def test_bytes_outside_of_files_are_not_contiguous(sparse, what):
    blocks = {
        "hole": laid(PAGE, (0, PAGE, None, 0)),
        "memory": MemoryBlocks(b"x" * PAGE),
        "beyond": BlockRange(sparse, 60 * PAGE, 10 * PAGE),
        "nothing": laid(0),
    }[what]
    assert find_contiguous_range(blocks) is None


def test_holes_of_files_and_runs_of_zeros_are_skipped(sparse):
    assert list(find_data_ranges(sparse)) == [(PAGE, PAGE), (9 * PAGE, 3 * PAGE)]
    assert list(find_data_ranges(BlockRange(sparse, 10 * PAGE, 50 * PAGE))) == [(0, 2 * PAGE)]
    assert list(find_data_ranges(BlockRange(sparse, 20 * PAGE, 4 * PAGE))) == []
    scattered = laid(
        8 * PAGE,
        (0, PAGE, None, 0),
        (PAGE, PAGE, sparse, PAGE),
        (2 * PAGE, PAGE, sparse, 9 * PAGE),
        (3 * PAGE, 5 * PAGE, None, 0),
    )
    assert list(find_data_ranges(scattered)) == [(PAGE, 2 * PAGE)]
    assert list(find_data_ranges(MemoryBlocks(b"xyz"))) == [(0, 3)]


def test_a_run_beyond_the_end_of_its_file_reads_as_zeros():
    assert list(find_data_ranges(laid(4 * PAGE, (0, 4 * PAGE, MemoryBlocks(b"x" * PAGE), 0)))) == [(0, PAGE)]


def test_everything_outside_of_the_data_ranges_is_zero(tmp_path, chance):
    def some(blocks, size):
        return laid(
            size * PAGE,
            *((at * PAGE, PAGE, chance.choice((None, blocks)), chance.randrange(64) * PAGE) for at in range(size)),
        )

    with (tmp_path / "disk").open("w+b", buffering=0) as file:
        file.truncate(64 * PAGE)
        for at in chance.sample(range(64), 20):
            os.pwrite(file.fileno(), random.Random(at).randbytes(PAGE), at * PAGE)
        for _ in range(50):
            blocks = some(BlockRange(FileBlocks.of(file), chance.randrange(8) * PAGE, 60 * PAGE), 30)
            data = bytearray(blocks.size)
            for place, length in find_data_ranges(blocks):
                data[place : place + length] = blocks.read_at(place, length)
            assert bytes(data) == blocks.read_at(0, blocks.size)
