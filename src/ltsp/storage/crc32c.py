"""CRC-32C (Castagnoli), which the standard library lacks: of VHDX, ext4, xfs and btrfs. RFC 3720, appendix B.4"""

from __future__ import annotations

import google_crc32c

ALL_ONES = 0xFFFFFFFF


def crc32c_inverted(data: bytes) -> int:
    """As the RFC has it: both the seed and the result are inverted."""
    value: int = google_crc32c.value(data)
    return value


def crc32c(data: bytes, seed: int = ALL_ONES) -> int:
    """As the kernel's function of that name: neither the seed nor the result is inverted."""
    value: int = google_crc32c.extend(seed ^ ALL_ONES, data)
    return value ^ ALL_ONES
