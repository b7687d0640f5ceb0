import pytest

from ltsp.tree.content import Bytes, ContentSlice

WHOLE = bytes(range(256)) * 9000  # more than is read at a time


@pytest.mark.parametrize(("offset", "size"), [(0, 10), (7, 300), ((1 << 20) + 5, 1 << 20), (len(WHOLE) - 3, 3)])
def test_an_excerpt_is_a_part_of_the_whole(offset, size):
    excerpt = ContentSlice(Bytes(WHOLE), offset, size)
    assert (excerpt.size, excerpt.stored_size) == (size, size)
    for _ in range(2):
        with excerpt.open() as stream:
            assert stream.size == size
            assert stream.read(4) + stream.read(1 << 30) == WHOLE[offset : offset + size]
            assert stream.read(1) == b""
            assert stream.is_consistent()


def test_of_a_file_that_became_shorter_there_is_what_is_left():
    with ContentSlice(Bytes(WHOLE), len(WHOLE) - 3, 9).open() as stream:
        assert stream.read(9) == WHOLE[-3:]
