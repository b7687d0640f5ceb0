"""Written images are read back by unsquashfs, the kernel and our own reader without differences."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.tree_snapshot import differences, mounted, of_tree, stated, unpacked
from corpus.tree_strategies import trees
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.reader import Image
from squashfs.write_helpers import write_image

CODECS = [
    Compression("gzip", 1),
    Compression("gzip", 12),
    Compression("zstd", 1),
    Compression("xz", 0),
    Compression("lz4"),
    Compression("lz4", high_compression=True),
    Compression("none"),
]
OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(CODECS),
        "block_size": st.sampled_from([4096, 8192, 131072, 1 << 20]),
        "threads": st.sampled_from([1, 2, 8]),
    },
)
few = settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
many = settings(few, max_examples=500)


def written_and_read_by(reader, tree, options):
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "image")
        write_image(tree, image, **options)
        assert differences(stated(of_tree(tree)), reader(image, Path(scratch))) == []


def ours(image, _scratch):
    with image.open("rb") as file:
        return of_tree(Image.open(file).tree())


@settings(few, max_examples=60)
@given(trees(), OPTIONS)
def test_our_reader_gives_back_the_tree(tree, options):
    written_and_read_by(ours, tree, options)


@pytest.mark.oracle
@pytest.mark.root
@few
@given(trees(), OPTIONS)
def test_unsquashfs_unpacks_the_tree(tree, options):
    written_and_read_by(unpacked, tree, options)


@pytest.mark.oracle
@pytest.mark.root
@few
@given(trees(), OPTIONS)
def test_the_kernel_shows_the_tree(tree, options):
    written_and_read_by(mounted, tree, options)


@pytest.mark.torture
@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize("reader", [unpacked, mounted])
@many
@given(tree=trees(), options=OPTIONS)
def test_500_trees_come_back_without_a_difference(reader, tree, options):
    written_and_read_by(reader, tree, options)
