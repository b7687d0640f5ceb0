"""Detect and decompress streams: gzip, bzip2, xz and zstd, including concatenated ones."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final, Protocol

from ltsp.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE_SIZE: Final = 1 << 20
"""Bytes decompressed at a time."""
_XZ_MEMORY_LIMIT: Final = 128 << 20
"""Memory limit of liblzma in bytes: enough for the 64 MiB dictionary of `xz -9`."""
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 27}
"""128 MiB, the default limit of the zstd program."""
_SKIPPABLE_FRAMES: Final = range(0x184D2A50, 0x184D2A60)
"""zstd frames without data, such as the table of contents of a container layer. RFC 8878, 3.1.2"""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _GzipDecompressor:
    """zlib with the interface of the other decompressors: it keeps its unconsumed input."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max(0, max_length))


_MAGICS: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{number.to_bytes(4, "little"): "zstd" for number in _SKIPPABLE_FRAMES},
}
_DECOMPRESSORS: Final[Mapping[str, Callable[[], _Decompressor]]] = {
    "gzip": _GzipDecompressor,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_LIMIT),
    "zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD_OPTIONS),
}
MAX_MAGIC_SIZE: Final = max(map(len, _MAGICS))
"""Bytes needed to detect a compressed stream."""

CountBytes = Callable[[int, int], None]
"""Called with the number of bytes consumed, and of bytes produced. May raise FormatError."""


def detect_compression(start: bytes) -> str:
    """`gzip`, `bzip2`, `xz` or `zstd`, by the first bytes of a stream; empty for anything else."""
    return next((kind for magic, kind in _MAGICS.items() if start.startswith(magic)), "")


def decompress_stream(
    packed: Iterator[bytes], count_bytes: CountBytes = lambda _packed, _unpacked: None
) -> Iterator[bytes]:
    """The decompressed stream, in pieces of at most 1 MiB.

    Raises FormatError, whose message begins with a verb, if it is damaged or truncated, and what `count_bytes` raises.
    """
    rest = _read_magic(packed)
    while True:
        kind = detect_compression(rest)
        if not kind:
            raise FormatError("has trailing data after the compressed stream")
        rest = yield from _decompress_one(_DECOMPRESSORS[kind](), rest, packed, count_bytes)
        rest = _skip_padding(rest, packed)
        if not rest:
            return


def _decompress_one(
    decompressor: _Decompressor, data: bytes, packed: Iterator[bytes], count_bytes: CountBytes
) -> Generator[bytes, None, bytes]:
    """Decompress one stream; return the bytes after it."""
    count_bytes(len(data), 0)
    while True:
        try:
            piece = decompressor.decompress(data, _PIECE_SIZE)
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, ValueError, EOFError, MemoryError) as error:
            raise FormatError(f"is damaged: {error or 'it cannot be decompressed'}") from error
        count_bytes(0, len(piece))
        if piece:
            yield piece
        if decompressor.eof:
            return decompressor.unused_data
        data = b""
        if decompressor.needs_input:
            data = next(packed, b"")
            if not data:
                raise FormatError("is truncated: the compressed stream is incomplete")
            count_bytes(len(data), 0)


def _read_magic(packed: Iterator[bytes]) -> bytes:
    """Enough bytes for a magic number, and whatever came with them."""
    start = b""
    while len(start) < MAX_MAGIC_SIZE and (piece := next(packed, b"")):
        start += piece
    return start


def _skip_padding(rest: bytes, packed: Iterator[bytes]) -> bytes:
    """The bytes after the padding of a tape record, or of an xz file to a multiple of four bytes."""
    while not (rest := rest.lstrip(b"\0")):
        piece = next(packed, b"")
        if not piece:
            return b""
        rest = piece
    while len(rest) < MAX_MAGIC_SIZE and (piece := next(packed, b"")):
        rest += piece
    return rest
