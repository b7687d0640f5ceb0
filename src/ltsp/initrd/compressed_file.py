"""Files that a distribution may have compressed one by one, kernel modules and firmware, unpacked."""

from __future__ import annotations

import lzma
import sys
import zlib
from typing import Final

from ltsp.errors import FormatError
from ltsp.tree.name import printable
from ltsp.tree.node import File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES: Final = (".zst", ".xz", ".gz")
"""As kmod and the kernel's firmware loader know them."""
_MEMORY: Final = 128 << 20
"""Bytes that liblzma may take: for a dictionary of 64 MiB, as `xz -9` makes them."""


def read_decompressed(tree: Tree, path: str, most: int) -> bytes | None:
    """What the file at a path, or of one compressed beside it, unfolds to; None if there is none.

    Raises FormatError if that is damaged or more than `most` bytes, OSError as reading does.
    """
    for suffix in ("", *SUFFIXES):
        file = tree.follow(path + suffix)
        if isinstance(file, File):
            return decompress(read_small_file(file, path + suffix, most), path + suffix, most)
    return None


def without_suffix(path: str) -> str:
    for suffix in SUFFIXES:
        path = path.removesuffix(suffix)
    return path


def decompress(data: bytes, path: str, most: int) -> bytes:
    """Raises FormatError."""
    try:
        decompressed, whole = _decompress(data, path, most)
    except (zlib.error, lzma.LZMAError, zstd.ZstdError, MemoryError) as error:
        raise FormatError(f"/{printable(path)} is damaged: {error}", "install its package again") from error
    if not whole:
        raise FormatError(f"/{printable(path)} is cut off, or unfolds to more than {most >> 20} MiB")
    return decompressed


def _decompress(data: bytes, path: str, most: int) -> tuple[bytes, bool]:
    """The bytes, and whether they are all."""
    decompressor: zstd.ZstdDecompressor | lzma.LZMADecompressor
    if path.endswith(".gz"):
        inflate = zlib.decompressobj(31)
        decompressed = inflate.decompress(data, most + 1)
        return decompressed, inflate.eof and len(decompressed) <= most
    if path.endswith(".zst"):
        decompressor = zstd.ZstdDecompressor(options=_WINDOW)
    elif path.endswith(".xz"):
        decompressor = lzma.LZMADecompressor(memlimit=_MEMORY)
    else:
        return data, True
    # One byte more than allowed, so that the end is met where exactly as many are there.
    decompressed = decompressor.decompress(data, most + 1)
    return decompressed, decompressor.eof and len(decompressed) <= most


_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 27}
"""128 MiB, as much as the zstd program takes without being told."""
