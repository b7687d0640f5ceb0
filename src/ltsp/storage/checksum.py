"""CRC-32C (Castagnoli), as used by VHDX, ext4, xfs and btrfs, and how ext4 and xfs store it. RFC 3720, appendix B.4"""

from __future__ import annotations

import google_crc32c

ALL_ONES = 0xFFFFFFFF


def crc32c_inverted(data: bytes) -> int:
    """As in the RFC: seed and result are inverted."""
    value: int = google_crc32c.value(data)
    return value


def crc32c(data: bytes, seed: int = ALL_ONES) -> int:
    """As the kernel's function of this name: neither seed nor result is inverted."""
    value: int = google_crc32c.extend(seed ^ ALL_ONES, data)
    return value ^ ALL_ONES


def matches_ext4(data: bytes, expected: int, seed: int = ALL_ONES, bits: int = 32) -> bool:
    """Verify a checksum of ext4: not inverted, and in some records only the lower half."""
    return crc32c(data, seed) & (1 << bits) - 1 == expected


def matches_xfs(data: bytes, at: int) -> bool:
    """Verify the checksum at an offset in the data; its own four bytes count as zeros.

    xfs seeds and inverts it. Linux xfs_cksum.h
    """
    return crc32c_inverted(data[:at] + bytes(4) + data[at + 4 :]) == int.from_bytes(data[at : at + 4], "little")
