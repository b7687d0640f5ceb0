"""Reading files that a distribution may have compressed individually: kernel modules and firmware."""

from __future__ import annotations

import lzma
import sys
import zlib
from typing import Final

from ltsp.errors import FormatError
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import printable
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES: Final = (".zst", ".xz", ".gz")
"""The suffixes known to kmod and the kernel's firmware loader."""
_MAX_LZMA_MEMORY: Final = 128 << 20
"""Maximum bytes of memory for liblzma: enough for a dictionary of 64 MiB, as of `xz -9`."""


def read_decompressed(tree: Tree, path: str, max_size: int) -> bytes | None:
    """The content of the file at a path, or of a compressed one next to it; None if there is none.

    Raises FormatError if it is damaged or has more than `maximum` bytes, and OSError.
    """
    for suffix in ("", *SUFFIXES):
        file = tree.follow(path + suffix)
        if isinstance(file, File):
            return decompress(read_small_file(file, path + suffix, max_size), path + suffix, max_size)
    return None


def strip_suffix(path: str) -> str:
    for suffix in SUFFIXES:
        path = path.removesuffix(suffix)
    return path


def decompress(data: bytes, path: str, max_size: int) -> bytes:
    """Decompress according to the suffix of the path. Raises FormatError."""
    try:
        decompressed, is_complete = _decompress(data, path, max_size)
    except (zlib.error, lzma.LZMAError, zstd.ZstdError, MemoryError) as error:
        raise FormatError(f"/{printable(path)} is damaged: {error}", "reinstall its package in the source") from error
    if not is_complete:
        raise FormatError(
            f"/{printable(path)} is truncated, or larger than {max_size >> 20} MiB when decompressed",
            "reinstall its package in the source",
        )
    return decompressed


def _decompress(data: bytes, path: str, max_size: int) -> tuple[bytes, bool]:
    """The bytes, and whether they are complete."""
    decompressor: zstd.ZstdDecompressor | lzma.LZMADecompressor
    if path.endswith(".gz"):
        inflate = zlib.decompressobj(31)
        decompressed = inflate.decompress(data, max_size + 1)
        return decompressed, inflate.eof and len(decompressed) <= max_size
    if path.endswith(".zst"):
        decompressor = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
    elif path.endswith(".xz"):
        decompressor = lzma.LZMADecompressor(memlimit=_MAX_LZMA_MEMORY)
    else:
        return data, True
    # One byte more than allowed, so that the end is reached if the size is exactly the limit.
    decompressed = decompressor.decompress(data, max_size + 1)
    return decompressed, decompressor.eof and len(decompressed) <= max_size


_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 27}
"""128 MiB, the default limit of the zstd program."""
