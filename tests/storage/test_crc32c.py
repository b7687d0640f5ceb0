from __future__ import annotations

import random

import pytest

from ltsp.storage.crc32c import ALL_ONES, crc32c, crc32c_inverted


def bit_by_bit(data, seed):
    """The polynomial of RFC 3720, reflected, without a table."""
    for byte in data:
        seed ^= byte
        for _ in range(8):
            seed = seed >> 1 ^ (0x82F63B78 if seed & 1 else 0)
    return seed


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_that_of_the_rfc(data, expected):
    """RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending."""
    assert crc32c_inverted(data) == expected
    assert crc32c(data) == expected ^ ALL_ONES


def test_a_checksum_goes_on_from_any_seed(chance: random.Random):
    for _ in range(50):
        data, seed = chance.randbytes(chance.randrange(300)), chance.randrange(1 << 32)
        assert crc32c(data, seed) == bit_by_bit(data, seed)
