"""Concatenating contents."""

from __future__ import annotations

import pytest

from ltsp.tree.content import Bytes, ConcatContent


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_it_is_read_as_if_it_were_one_file(piece):
    joined = ConcatContent((Bytes(b"ab"), Bytes(b""), Bytes(b"cde")))
    assert (joined.size, joined.stored_size) == (5, 5)
    with joined.open() as stream:
        assert stream.size == 5
        pieces = list(iter(lambda: stream.read(piece), b""))
        assert stream.is_consistent()
    assert b"".join(pieces) == b"abcde"
    assert {len(each) for each in pieces[:-1]} <= {piece}


def test_what_is_skipped_is_not_read_again():
    with ConcatContent((Bytes(b"ab"), Bytes(b"cde"))).open() as stream:
        stream.skip(3)
        assert stream.hole_size() == 0
        assert stream.read(9) == b"de"
