"""Compressed data of disks: by the library, with a limit on memory, and every failure a FormatError."""

from __future__ import annotations

import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import deflate

from ltsp.disk.blocks import Blocks
from ltsp.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WINDOW_LOG: Final = 27
"""zstd takes no larger one by itself either: 128 MiB."""
_CLUSTER_WINDOW_LOG: Final = 23
_XZ_MEMORY: Final = 256 << 20
"""Bytes; xz -9 needs 65 MiB."""
_PIECE: Final = 1 << 20

GZIP: Final = b"\x1f\x8b\x08"
XZ: Final = b"\xfd7zXZ\0"
ZSTD: Final = b"\x28\xb5\x2f\xfd"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gzip:
    """zlib's object with the interface of the others."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


def unpack_piece(kind: str, stored: bytes, most: int) -> bytes:
    """What a cluster or grain holds, `most` bytes or fewer; there may be anything behind it.

    `kind` is `deflate`, `zlib` or `zstd`. Raises FormatError.
    """
    try:
        match kind:
            case "deflate":
                return bytes(deflate.deflate_decompress(stored, most))
            case "zlib":
                return bytes(deflate.zlib_decompress(stored, most))
            case _:
                return _zstd(_CLUSTER_WINDOW_LOG).decompress(stored, most)
    except (deflate.DeflateError, ValueError, zstd.ZstdError) as error:
        raise FormatError(f"its {kind} data is damaged") from error


def kind_of(head: bytes) -> str:
    """`gzip`, `xz`, `zstd` or nothing."""
    for magic, kind in ((GZIP, "gzip"), (XZ, "xz"), (ZSTD, "zstd")):
        if head.startswith(magic):
            return kind
    return ""


def unpacked(file: Blocks, kind: str) -> Iterator[bytes]:
    """All that a compressed file holds, in pieces of a mebibyte or less; files behind each other are one.

    Raises FormatError where it is damaged.
    """
    make: Callable[[], _Decompressor] = {"gzip": _Gzip, "xz": _xz, "zstd": _zstd}[kind]
    at = 0
    rest = b""
    while rest or at < file.size:
        decompressor = make()
        try:
            while not decompressor.eof:
                if decompressor.needs_input and not rest:
                    rest = file.read_at(at, _PIECE)
                    at += len(rest)
                    if not rest:
                        raise FormatError("it ends too early", "copy it again")
                piece = decompressor.decompress(rest, _PIECE)
                rest = b""
                if piece:
                    yield piece
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, EOFError) as error:
            raise FormatError(f"its {kind} data is damaged: {error}", "copy it again") from error
        rest = decompressor.unused_data
        if not rest:
            rest = file.read_at(at, _PIECE)
            at += len(rest)
        # Tapes and some tools pad with zeros. gzip(1), xz(1)
        rest = rest.lstrip(b"\0")


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _zstd(window_log: int = _WINDOW_LOG) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})
