"""An archive as one compressed piece that the kernel unpacks: usr/Kconfig of Linux, CONFIG_RD_*.

It is one frame or member: init/initramfs.c takes what follows it for the next archive.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

import deflate

from ltsp.errors import UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD_LEVEL: Final = 17
_ZSTD_THREADS: Final = 2
"""The bytes do not depend on how many threads there are, only on whether there are any."""
_GZIP_LEVEL: Final = 9


def compress(archive: bytes, codec: str) -> bytes:
    """The archive compressed with `zstd` or `gzip`, or as it is for `none`.

    Raises UsageError where there is no such codec.
    """
    if codec not in _CODECS:
        raise UsageError(f"an initrd is not compressed with {codec!r}", f"choose one of {', '.join(_CODECS)}")
    return _CODECS[codec](archive)


def _zstd(archive: bytes) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
        zstd.CompressionParameter.nb_workers: _ZSTD_THREADS,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(archive, options=options)


def _gzip(archive: bytes) -> bytes:
    return bytes(deflate.gzip_compress(archive, _GZIP_LEVEL))


_CODECS: Final[Mapping[str, Callable[[bytes], bytes]]] = {"zstd": _zstd, "gzip": _gzip, "none": bytes}
