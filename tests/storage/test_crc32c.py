from __future__ import annotations

import random

from ltsp.storage import crc32c


def test_the_checksum_is_that_of_the_rfc():
    """RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending."""
    for data, expected in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ):
        assert crc32c.finished(data) == expected
        assert crc32c.plain(data, 0xFFFFFFFF) ^ 0xFFFFFFFF == expected


def test_ours_and_the_library_agree_from_any_seed(chance: random.Random):
    for _ in range(50):
        data, seed = chance.randbytes(chance.randrange(300)), chance.randrange(1 << 32)
        assert crc32c.plain(data, seed) == crc32c.crc32c(data, seed)
