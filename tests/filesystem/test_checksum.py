from __future__ import annotations

import random

from ltsp.filesystem import checksum


def test_the_checksum_is_that_of_the_rfc():
    """RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending."""
    for data, expected in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ):
        assert checksum.crc32c(data) ^ 0xFFFFFFFF == expected
        assert checksum.plain(data, 0xFFFFFFFF) ^ 0xFFFFFFFF == expected


def test_ours_and_the_library_agree_from_any_seed(chance: random.Random):
    for _ in range(50):
        data, seed = chance.randbytes(chance.randrange(300)), chance.randrange(1 << 32)
        assert checksum.plain(data, seed) == checksum.crc32c(data, seed)


def test_a_checksum_within_the_data_counts_as_zeros():
    data = b"some" + bytes(4) + b"data"
    whole = b"some" + (checksum.crc32c(data) ^ 0xFFFFFFFF).to_bytes(4, "little") + b"data"
    assert checksum.is_right(whole, 4)
    assert not checksum.is_right(whole[:-1] + b"A", 4)
