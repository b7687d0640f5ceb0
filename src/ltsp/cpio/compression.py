"""An archive as one compressed piece that the kernel unpacks: usr/Kconfig of Linux, CONFIG_RD_*.

It is one frame or member: init/initramfs.c takes what follows it for the next archive.
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
"""Windows of 4 MiB: memory that the client must have to unpack it. The next levels take longer and are hardly smaller,
as kernel modules go; the last ones take twenty times as long to save a tenth."""
_GZIP_LEVEL: Final = 6
_GZIP_WINDOW: Final = 31
"""zlib's name for a gzip member. zlib.h, inflateInit2"""
_ZSTD_THREADS: Final = 2
"""The bytes do not depend on how many threads there are, only on whether there are any."""


def compress(archive: bytes, codec: str) -> bytes:
    """The archive compressed with `zstd` or `gzip`, or as it is for `none`.

    Raises UsageError where there is no such codec.
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
    """Whether this is the archive, compressed so: then it need not be compressed again, which takes far longer."""
    match codec:
        case "zstd":
            try:
                return zstd.ZstdDecompressor().decompress(packed, len(archive) + 1) == archive
            except zstd.ZstdError:
                return False
        case "gzip":
            try:
                return zlib.decompressobj(_GZIP_WINDOW).decompress(packed, len(archive) + 1) == archive
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
