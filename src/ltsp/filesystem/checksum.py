"""Verify the metadata checksums of ext4 and xfs."""

from __future__ import annotations

from ltsp.storage.crc32c import ALL_ONES, crc32c, crc32c_inverted


def matches_ext4(data: bytes, expected: int, seed: int = ALL_ONES, bits: int = 32) -> bool:
    """Verify a checksum of ext4: not inverted, and in some records only the lower half."""
    return crc32c(data, seed) & (1 << bits) - 1 == expected


def matches_xfs(data: bytes, at: int) -> bool:
    """Verify the checksum at an offset in the data; its own four bytes count as zeros.

    xfs seeds and inverts it. Linux xfs_cksum.h
    """
    return crc32c_inverted(data[:at] + bytes(4) + data[at + 4 :]) == int.from_bytes(data[at : at + 4], "little")
