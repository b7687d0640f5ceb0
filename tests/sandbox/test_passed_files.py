"""Contents that lie in the files which the reading process was given, and what it may say of them."""

from __future__ import annotations

import pytest

from ltsp.errors import FileChanged
from ltsp.sandbox.passed_files import PassedFiles


@pytest.fixture
def given(tmp_path):
    (tmp_path / "one").write_bytes(b"0123456789")
    (tmp_path / "two").write_bytes(b"abcdef")
    with PassedFiles() as files:
        for name in ("one", "two"):
            with (tmp_path / name).open("rb") as file:
                files.add(file)
        yield files


def test_pieces_of_several_files_and_holes_are_one_content(given):
    content = given.content(7, ((0, 2, 3), (-1, 0, 5), (1, 0, 4)))
    assert (content.size, content.stored_size) == (12, 7)
    with content.open() as stream:
        assert stream.hole_size() == 0
        assert stream.read(4) == b"234\0"
        assert stream.hole_size() == 4
        stream.skip(4)
        assert stream.hole_size() == 0
        assert stream.read(100) == b"abcd"
        assert stream.read(1) == b""
        assert stream.hole_size() == 0
        assert stream.is_consistent()


def test_a_range_outside_the_files_is_refused(given):
    for places in (((0, 5, 6),), ((1, 6, 1),), ((2, 0, 1),)):
        with pytest.raises(ValueError, match=r"\d"):
            given.content(0, places)


def test_a_disk_that_shrank_is_an_error(given, tmp_path):
    content = given.content(10, ((0, 0, 10),))
    (tmp_path / "one").write_bytes(b"01234")
    with content.open() as stream, pytest.raises(FileChanged, match="was truncated"):
        stream.read(10)
