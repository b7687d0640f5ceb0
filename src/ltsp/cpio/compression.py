"""Compress an archive in a format that the kernel unpacks: usr/Kconfig of Linux, CONFIG_RD_*.

The result is a single frame or member: init/initramfs.c takes anything after it for the next archive.
"""

from __future__ import annotations

import sys
import zlib
from typing import Final

import deflate

from ltsp.errors import UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODECS: Final = ("zstd", "gzip", "none")
_ZSTD_LEVEL: Final = 9
"""Windows of 4 MiB, which the client needs as memory for unpacking. For kernel modules, the next levels take longer for
little gain; the last ones take twenty times as long to save a tenth."""
_GZIP_LEVEL: Final = 6
_GZIP_WINDOW_BITS: Final = 31
"""Window bits for a gzip member. zlib.h, inflateInit2"""
_ZSTD_THREADS: Final = 2
"""The result does not depend on the number of threads, only on whether there are any."""


def compress(archive: bytes, codec: str) -> bytes:
    """The archive compressed with `zstd` or `gzip`, or unchanged for `none`.

    Raises UsageError for another codec.
    """
    match codec:
        case "zstd":
            return _compress_zstd(archive)
        case "gzip":
            return bytes(deflate.gzip_compress(archive, _GZIP_LEVEL))
        case "none":
            return archive
        case _:
            raise UsageError(f"unsupported initrd compression {codec!r}", f"choose one of {', '.join(CODECS)}")


def matches_archive(packed: bytes, codec: str, archive: bytes) -> bool:
    """Whether `packed` is the archive compressed with this codec; compressing it again would take far longer."""
    match codec:
        case "zstd":
            try:
                return zstd.ZstdDecompressor().decompress(packed, len(archive) + 1) == archive
            except zstd.ZstdError:
                return False
        case "gzip":
            try:
                return zlib.decompressobj(_GZIP_WINDOW_BITS).decompress(packed, len(archive) + 1) == archive
            except zlib.error:
                return False
        case _:
            return packed == archive


def _compress_zstd(archive: bytes) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
        zstd.CompressionParameter.nb_workers: _ZSTD_THREADS,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(archive, options=options)
