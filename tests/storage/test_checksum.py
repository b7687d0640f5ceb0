from __future__ import annotations

import random

import pytest

from ltsp.storage import checksum
from ltsp.storage.checksum import ALL_ONES, crc32c, crc32c_inverted


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


def test_only_the_lower_half_may_be_kept():
    whole = crc32c(b"data", 5)
    assert checksum.matches_ext4(b"data", whole, 5)
    assert checksum.matches_ext4(b"data", whole & 0xFFFF, 5, bits=16)
    assert not checksum.matches_ext4(b"data", whole & 0xFFFF ^ 1, 5, bits=16)


def test_a_checksum_within_the_data_counts_as_zeros():
    data = b"some" + bytes(4) + b"data"
    whole = b"some" + crc32c_inverted(data).to_bytes(4, "little") + b"data"
    assert checksum.matches_xfs(whole, 4)
    assert not checksum.matches_xfs(whole[:-1] + b"A", 4)
