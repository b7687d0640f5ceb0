from __future__ import annotations

import random
from contextlib import suppress

import pytest

from ltsp.errors import FormatError
from ltsp.storage import lzo

PIECES = {
    "literals alone": (b"\x15abcd\x11\0\0", b"abcd"),
    "a match of two bytes": (b"\x13ab\x04\0\x11\0\0", b"abab"),
    "one byte again and again": (b"\x12a\x20\x01\0\0\x11\0\0", b"a" * 35),
}


@pytest.mark.parametrize("case", PIECES)
def test_instructions_do_what_the_format_says(case):
    packed, expected = PIECES[case]
    assert lzo.decompress_in_python(packed, 4096) == expected


def test_whatever_the_bytes_are_ends_in_bounds(chance: random.Random):
    packed = [packed for packed, _ in PIECES.values()]
    for _ in range(5000):
        data = bytearray(chance.choice([*packed, chance.randbytes(chance.randrange(1, 60))]))
        data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(FormatError):
            assert len(lzo.decompress_in_python(bytes(data), 4096)) <= 4096


@pytest.mark.parametrize("packed", [b"", b"\0", b"\x15abc", b"\x15abcd", b"\x12a\x20" + bytes(100)])
def test_a_truncated_piece_is_damage(packed):
    with pytest.raises(FormatError, match="truncated"):
        lzo.decompress_in_python(packed, 1 << 20)
