"""Compressed extents. Linux fs/btrfs/compression.c, lzo.c"""

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
"""Bytes of an extent that is compressed, before and after."""
_WINDOW = 17
"""Binary logarithm of the most that zstd may look back."""
_WORD = 4


def decompress_extent(data: bytes, kind: int, size: int, sector: int) -> bytes:
    """The `size` bytes of an extent; zeros follow where it holds less, as the kernel has it.

    Raises FormatError where it is damaged.
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
            raise FormatError(f"an extent is compressed in an unknown way, {kind}")
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
    """Sectors that were compressed one by one; the word with a piece's size never crosses the end of a sector."""
    total = int.from_bytes(data[:_WORD], "little")
    if total > len(data):
        raise FormatError("a compressed extent is damaged: it is cut off")
    pieces: list[bytes] = []
    at, found = _WORD, 0
    while at + _WORD <= total and found < size:
        left = sector - at % sector
        if left < _WORD:
            at += left
        length = int.from_bytes(data[at : at + _WORD], "little")
        at += _WORD
        if not 0 < length <= total - at:
            raise FormatError("a compressed extent is damaged: a piece of it is cut off")
        piece = lzo.decompress(data[at : at + length], sector)
        at += length
        pieces.append(piece)
        found += len(piece)
    return b"".join(pieces)[:size]
