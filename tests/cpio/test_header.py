"""Initrds are padded so that another one may follow."""

from __future__ import annotations

import pytest

from corpus.tree_strategies import noise
from ltsp.cpio.compression import compress, matches_archive
from ltsp.cpio.header import pad_initrd
from ltsp.tree.content import Bytes


def read(content) -> bytes:
    with content.open() as stream:
        return stream.read(content.size + 1)


@pytest.mark.parametrize("size", range(1, 9))
def test_zeros_make_it_a_multiple_of_four_bytes(size):
    data = b"\xff" * size
    assert read(pad_initrd(Bytes(data))) == data + bytes(-size % 4)
    assert pad_initrd(Bytes(data)).size % 4 == 0


def test_what_is_a_multiple_already_stays_as_it_is():
    content = Bytes(b"four")
    assert pad_initrd(content) is content
    assert pad_initrd(Bytes(b"")).size == 0


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_what_was_packed_and_padded_is_known_again(codec):
    sizes = set()
    for number in range(40):
        archive = noise(100 + number)
        packed = compress(archive, codec)
        sizes.add(len(packed) % 4)
        assert matches_archive(read(pad_initrd(Bytes(packed))), codec, archive)
    assert sizes == {0, 1, 2, 3}
