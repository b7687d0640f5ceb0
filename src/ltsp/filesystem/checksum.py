"""CRC-32C, with which ext4, xfs and btrfs guard their metadata."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ltsp.errors import LtspError

_ALL = 0xFFFFFFFF


@cache
def _engine() -> Callable[[bytes, int], int]:
    try:
        from dissect.util.hash import crc32c  # noqa: PLC0415 - an extra, asked for where it is needed
    except ImportError as error:
        raise LtspError(
            "this file system is guarded by checksums, which need a library that is not installed",
            "pip install 'ltsp[disk]'",
        ) from error
    compute: Callable[[bytes, int], int] = crc32c.crc32c
    return compute


def crc32c(data: bytes, seed: int = _ALL) -> int:
    """As the kernel's function of that name: neither the seed nor the result is inverted."""
    return _engine()(data, seed ^ _ALL) ^ _ALL


def is_right(data: bytes, at: int) -> bool:
    """Whether the checksum that stands at a place in the data, in four bytes that count as zeros, is that of the data.

    In the form of xfs: seeded and inverted. Linux xfs_cksum.h
    """
    return crc32c(data[:at] + bytes(4) + data[at + 4 :]) ^ _ALL == int.from_bytes(data[at : at + 4], "little")
