"""An archive as one compressed piece that the kernel unpacks: usr/Kconfig of Linux, CONFIG_RD_*.

It is one frame or member: init/initramfs.c takes what follows it for the next archive.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

import deflate

from ltsp.errors import UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODECS: Final = ("zstd", "gzip", "none")
_LEVELS: Final[Mapping[str, Mapping[str, int]]] = {
    "fast": {"zstd": 3, "gzip": 4},
    "balanced": {"zstd": 9, "gzip": 6},
    "small": {"zstd": 19, "gzip": 12},
}
"""zstd's windows are of 8 MiB at most with these: memory that the client must have to unpack it. Those between 9 and 16
take longer and are hardly smaller, as kernel modules go.
"""
_ZSTD_THREADS: Final = 2
"""The bytes do not depend on how many threads there are, only on whether there are any."""


def compress(archive: bytes, codec: str, preset: str = "balanced") -> bytes:
    """The archive compressed with `zstd` or `gzip`, as a preset says, or as it is for `none`.

    Raises UsageError where there is no such codec.
    """
    if codec not in CODECS:
        raise UsageError(f"an initrd is not compressed with {codec!r}", f"choose one of {', '.join(CODECS)}")
    level = _LEVELS[preset].get(codec, 0)
    match codec:
        case "zstd":
            return _zstd(archive, level)
        case "gzip":
            return bytes(deflate.gzip_compress(archive, level))
        case _:
            return archive


def _zstd(archive: bytes, level: int) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.nb_workers: _ZSTD_THREADS,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    return zstd.compress(archive, options=options)
