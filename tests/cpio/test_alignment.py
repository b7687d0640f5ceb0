"""Initrds end where another one may begin."""

from __future__ import annotations

import pytest

from corpus.trees import noise
from ltsp.cpio.alignment import padded
from ltsp.cpio.compression import compress, holds
from ltsp.tree.content import Bytes


def read(content) -> bytes:
    with content.open() as stream:
        return stream.read(content.size + 1)


@pytest.mark.parametrize("size", range(1, 9))
def test_zeros_make_it_a_multiple_of_four_bytes(size):
    data = b"\xff" * size
    assert read(padded(Bytes(data))) == data + bytes(-size % 4)
    assert padded(Bytes(data)).size % 4 == 0


def test_what_is_a_multiple_already_stays_as_it_is():
    content = Bytes(b"four")
    assert padded(content) is content
    assert padded(Bytes(b"")).size == 0


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_what_was_packed_and_padded_is_known_again(codec):
    sizes = set()
    for number in range(40):
        archive = noise(100 + number)
        packed = compress(archive, codec)
        sizes.add(len(packed) % 4)
        assert holds(read(padded(Bytes(packed))), codec, archive)
    assert sizes == {0, 1, 2, 3}
