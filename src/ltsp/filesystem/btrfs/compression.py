"""Compressed extents. Linux fs/btrfs/compression.c, lzo.c"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import cache

from ltsp.errors import FormatError
from ltsp.filesystem.btrfs import lzo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = 128 << 10
"""Bytes of an extent that is compressed, before and after."""
_WINDOW = 17
"""Binary logarithm of the most that zstd may look back."""
_WORD = 4


def unfolded(data: bytes, kind: int, size: int, sector: int) -> bytes:
    """The `size` bytes of an extent; zeros follow where it holds less, as the kernel has it.

    Raises FormatError where it is damaged.
    """
    if size > MOST or len(data) > MOST:
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
        piece = _lzo_piece(data[at : at + length], sector)
        at += length
        pieces.append(piece)
        found += len(piece)
    return b"".join(pieces)[:size]


def _lzo_piece(data: bytes, most: int) -> bytes:
    native = _native_lzo()
    if native is None:
        return lzo.decompress(data, most)
    try:
        piece = native(data, False, most)
    except BaseException as error:
        # The library raises what its language gives; a panic of Rust is no Exception, and anything else may pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FormatError("a compressed extent is damaged") from error
    if len(piece) > most:
        raise FormatError("a compressed extent is damaged: a piece of it is too large")
    return piece


@cache
def _native_lzo() -> Callable[[bytes, bool, int], bytes] | None:
    """Five times as fast as ours, where it is installed."""
    try:
        from dissect.util.compression import lzo_native  # noqa: PLC0415 - an extra, asked for where it is needed
    except ImportError:
        return None
    found: Callable[[bytes, bool, int], bytes] | None = getattr(lzo_native, "decompress", None)
    return found
