"""Checksums as ext4 and xfs keep them beside their metadata."""

from __future__ import annotations

from ltsp.storage.crc32c import ALL_ONES, crc32c, crc32c_inverted


def matches_ext4(data: bytes, expected: int, seed: int = ALL_ONES, bits: int = 32) -> bool:
    """In the form of ext4: not inverted, and in some places only the lower half of it is kept."""
    return crc32c(data, seed) & (1 << bits) - 1 == expected


def matches_xfs(data: bytes, at: int) -> bool:
    """Whether the checksum that stands at a place in the data, in four bytes that count as zeros, is that of the data.

    In the form of xfs: seeded and inverted. Linux xfs_cksum.h
    """
    return crc32c_inverted(data[:at] + bytes(4) + data[at + 4 :]) == int.from_bytes(data[at : at + 4], "little")
