from __future__ import annotations

import threading

import pytest

from corpus.tree_strategies import noise, text
from ltsp.squashfs.compression import Codec, Compression
from ltsp.squashfs.output import ImageOutput
from ltsp.squashfs.workers import Workers

BLOCK = 4096


class Places:
    def __init__(self):
        self.marks, self.block_sizes = [], []

    def put(self, mark, block_sizes):
        self.marks.append(mark.position)
        self.block_sizes += block_sizes


@pytest.fixture
def output(tmp_path):
    with open(tmp_path / "image", "w+b", buffering=0) as file, ImageOutput(file, 96) as opened:
        yield opened


class Failing(Compression):
    def codec(self, _block_size):
        def fail(_data):
            raise MemoryError("no room")

        return Codec(fail, fail)


def test_blocks_reach_the_output_in_the_order_of_their_submission(output):
    places = Places()
    with Workers(output, Compression("zstd", 1), BLOCK, 8) as workers:
        for number in range(500):
            data = noise(BLOCK, number) if number % 3 else text(BLOCK, number)
            workers.submit(places, (data,), BLOCK, sparse=True)
        workers.drain()
    sizes = [word & ~(1 << 24) for word in places.block_sizes]
    assert places.marks == [96 + sum(sizes[:number]) for number in range(500)]
    assert output.position == 96 + sum(sizes)


def test_zeros_become_holes_where_holes_are_allowed(output):
    places, packed = Places(), Places()
    with Workers(output, Compression("gzip", 1), BLOCK, 1) as workers:
        workers.submit(places, (bytes(BLOCK), b"x" * BLOCK, bytes(10)), 2 * BLOCK + 10, sparse=True)
        workers.submit_holes(places, 3)
        workers.submit(packed, (bytes(BLOCK),), BLOCK, sparse=False)
        workers.drain()
    assert [bool(word) for word in places.block_sizes] == [False, True, False, False, False, False]
    assert packed.block_sizes[0] > 0


def fail(output):
    with Workers(output, Failing(), BLOCK, 2) as workers:
        for _ in range(100):
            workers.submit(Places(), (b"x" * BLOCK,), BLOCK, sparse=True)
        workers.drain()


def test_an_error_in_a_worker_is_raised_when_the_result_is_collected(output):
    with pytest.raises(MemoryError, match="no room"):
        fail(output)


def be_interrupted(path):
    with (
        open(path, "w+b", buffering=0) as file,
        ImageOutput(file, 96) as output,
        Workers(output, Compression("xz", 9), 1 << 20, 4) as workers,
    ):
        for _ in range(6):
            workers.submit(Places(), (text(1 << 20),), 1 << 20, sparse=True)
        raise KeyboardInterrupt


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        be_interrupted(tmp_path / "image")
    assert threading.active_count() == before
