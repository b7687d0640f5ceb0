"""Estimating the size of an image from a sample of its blocks."""

from __future__ import annotations

import random
import tempfile

import pytest

from corpus.dict_tree import make_tree
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.estimate import estimate_size
from ltsp.squashfs.writer import WriteOptions, write_squashfs
from ltsp.tree.faults import Faults
from ltsp.tree.node import File, Metadata

CODECS = [Compression.preset(name, "fast") for name in ("gzip", "zstd", "xz", "lz4", "none")]


def written(tree, options):
    with tempfile.TemporaryFile(buffering=0) as image:
        return write_squashfs(tree, image, options, Faults()).size


def system(random_numbers):
    """Programs, documents, pictures and configuration: what shrinks by half, well, not at all, and in company only."""
    words = [random_numbers.randbytes(random_numbers.randint(2, 9)).hex() for _ in range(3000)]

    def text(size):
        return " ".join(random_numbers.choices(words, k=size // 10))[:size].encode()

    entries = {f"usr/bin/{number}": text(random_numbers.randint(20_000, 900_000)) for number in range(20)}
    entries |= {f"usr/share/doc/{number}": text(random_numbers.randint(100, 4000)) for number in range(1500)}
    entries |= {f"usr/share/pictures/{number}": random_numbers.randbytes(200_000 + number) for number in range(20)}
    return make_tree(entries)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_it_is_near_the_truth_and_never_above_it_for_certain(codec, chance):
    tree, options = system(chance), WriteOptions(codec)
    found, size = estimate_size(tree, options), written(tree, options)
    assert found.minimum <= size
    assert 0.75 * size < found.size < 1.35 * size


def test_what_cannot_shrink_is_certain(chance):
    tree = make_tree({f"file{number}": chance.randbytes(1_000_000 + number) for number in range(9)})
    found = estimate_size(tree, WriteOptions(CODECS[0]))
    assert 8_900_000 < found.minimum <= found.size < 9_300_000


def test_files_that_may_be_equal_are_not_certain(chance):
    """Only a reading tells, and equal files are stored once."""
    data = chance.randbytes(1 << 20)
    tree, options = make_tree({f"file{number}": data for number in range(9)}), WriteOptions(CODECS[0])
    found = estimate_size(tree, options)
    assert found.minimum <= written(tree, options) < 2 << 20
    assert found.size > 9 << 20


def test_a_file_of_several_names_counts_once(chance):
    file = make_tree({"one": chance.randbytes(1 << 20)}).root.entries["one"]
    assert estimate_size(make_tree({str(number): file for number in range(9)}), WriteOptions()).size < 3 << 19


def test_zeros_and_holes_take_no_room():
    assert estimate_size(make_tree({"zeros": bytes(8 << 20)}), WriteOptions()).size < 1 << 16


def test_the_same_tree_gives_the_same():
    tree = system(random.Random(1))
    assert estimate_size(tree, WriteOptions()) == estimate_size(tree, WriteOptions())


def test_little_is_compressed_of_much(chance):
    tree = make_tree({f"file{number}": chance.randbytes(1 << 20) for number in range(40)})
    assert 0 < estimate_size(tree, WriteOptions()).sampled <= 6 << 20


def test_what_cannot_be_read_is_left_to_the_build():
    class Gone:
        size = stored_size = 1 << 20

        def open(self):
            raise PermissionError(13, "Permission denied")

    tree = make_tree({"gone": File(Metadata(0o644), Gone())})
    assert estimate_size(tree, WriteOptions()).minimum == 0


def test_a_codec_of_another_program_is_not_certain(chance):
    tree = make_tree({"file": chance.randbytes(1 << 20)})
    assert estimate_size(tree, WriteOptions(), may_be_smaller=True).minimum == 0


def test_an_empty_tree_needs_next_to_nothing():
    assert estimate_size(make_tree({}), WriteOptions()).size < 100
