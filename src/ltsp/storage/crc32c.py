"""CRC-32C (Castagnoli), as used by VHDX, ext4, xfs and btrfs. RFC 3720, appendix B.4"""

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
