"""Decompress extents. Linux fs/btrfs/compression.c, lzo.c"""

from __future__ import annotations

import sys
import zlib

from ltsp.errors import FormatError
from ltsp.storage import lzo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_EXTENT = 128 << 10
"""Largest size in bytes of a compressed extent, before and after compression."""
_WINDOW = 17
"""Base-2 logarithm of the largest zstd window."""
_WORD = 4


def decompress_extent(data: bytes, kind: int, size: int, sector: int) -> bytes:
    """The `size` bytes of an extent, padded with zeros if it has fewer, as in the kernel.

    Raises FormatError if it is damaged.
    """
    if size > MAX_EXTENT or len(data) > MAX_EXTENT:
        raise FormatError("a compressed extent is too large")
    match kind:
        case 1:
            found = _zlib(data, size)
        case 2:
            found = _lzo(data, size, sector)
        case 3:
            found = _zstd(data, size)
        case _:
            raise FormatError(f"an extent has an unknown compression type, {kind}")
    return found + bytes(size - len(found))


def _zlib(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise FormatError(f"a compressed extent is damaged: {error}") from error


def _zstd(data: bytes, size: int) -> bytes:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    try:
        return zstd.ZstdDecompressor(options=options).decompress(data, size)
    except zstd.ZstdError as error:
        raise FormatError(f"a compressed extent is damaged: {error}") from error


def _lzo(data: bytes, size: int, sector: int) -> bytes:
    """Decompress sectors compressed one by one; the size of a piece never crosses the end of a sector."""
    total = int.from_bytes(data[:_WORD], "little")
    if total > len(data):
        raise FormatError("a compressed extent is damaged: it is truncated")
    pieces: list[bytes] = []
    at, found = _WORD, 0
    while at + _WORD <= total and found < size:
        left = sector - at % sector
        if left < _WORD:
            at += left
        length = int.from_bytes(data[at : at + _WORD], "little")
        at += _WORD
        if not 0 < length <= total - at:
            raise FormatError("a compressed extent is damaged: a piece is truncated")
        piece = lzo.decompress(data[at : at + length], sector)
        at += length
        pieces.append(piece)
        found += len(piece)
    return b"".join(pieces)[:size]
