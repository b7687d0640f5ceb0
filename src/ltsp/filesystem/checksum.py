"""CRC-32C, with which ext4, xfs and btrfs guard their metadata. RFC 3720, appendix B.4"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

_ALL = 0xFFFFFFFF
_POLYNOMIAL = 0x82F63B78


def crc32c(data: bytes, seed: int = _ALL) -> int:
    """As the kernel's function of that name: neither the seed nor the result is inverted."""
    native = _native()
    return plain(data, seed) if native is None else native(data, seed ^ _ALL) ^ _ALL


def matches(data: bytes, expected: int, seed: int = _ALL, bits: int = 32) -> bool:
    """In the form of ext4: not inverted, and in some places only the lower half of it is kept."""
    return crc32c(data, seed) & (1 << bits) - 1 == expected


def is_right(data: bytes, at: int) -> bool:
    """Whether the checksum that stands at a place in the data, in four bytes that count as zeros, is that of the data.

    In the form of xfs: seeded and inverted. Linux xfs_cksum.h
    """
    return crc32c(data[:at] + bytes(4) + data[at + 4 :]) ^ _ALL == int.from_bytes(data[at : at + 4], "little")


def plain(data: bytes, seed: int) -> int:
    table = _table()
    for byte in data:
        seed = table[(seed ^ byte) & 0xFF] ^ seed >> 8
    return seed


@cache
def _table() -> tuple[int, ...]:
    table = []
    for start in range(256):
        value = start
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


@cache
def _native() -> Callable[[bytes, int], int] | None:
    """Five times as fast as ours, where it is installed."""
    try:
        from dissect.util.hash import crc32c_native  # noqa: PLC0415 - an extra, asked for where it is needed
    except ImportError:
        return None
    found: Callable[[bytes, int], int] | None = getattr(crc32c_native, "crc32c", None)
    return found
