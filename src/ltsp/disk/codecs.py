"""Decompress clusters and grains of disk images, with a memory limit; every failure is a FormatError."""

from __future__ import annotations

import sys
from typing import Final

import deflate

from ltsp.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB: a cluster has 2 MiB at most."""


def decompress_cluster(kind: str, stored: bytes, most: int) -> bytes:
    """The content of a cluster or grain, at most `most` bytes; trailing data is ignored.

    `kind` is `deflate`, `zlib` or `zstd`. Raises FormatError.
    """
    try:
        match kind:
            case "deflate":
                return bytes(deflate.deflate_decompress(stored, most))
            case "zlib":
                return bytes(deflate.zlib_decompress(stored, most))
            case _:
                return zstd.ZstdDecompressor(options=_WINDOW).decompress(stored, most)
    except (deflate.DeflateError, ValueError, zstd.ZstdError) as error:
        raise FormatError(f"its {kind} data is damaged") from error
