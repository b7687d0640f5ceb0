"""Which compressions the squashfs driver of an image's own kernel can read, by its configuration or by the module."""

from __future__ import annotations

import lzma
import re
import sys
import zlib
from collections.abc import Mapping

from ltsp.errors import FormatError
from ltsp.tree.node import File
from ltsp.tree.small import read_small
from ltsp.tree.tree import Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_OPTIONS: Mapping[str, bytes] = {
    "gzip": b"CONFIG_SQUASHFS_ZLIB",
    "lz4": b"CONFIG_SQUASHFS_LZ4",
    "lzo": b"CONFIG_SQUASHFS_LZO",
    "xz": b"CONFIG_SQUASHFS_XZ",
    "zstd": b"CONFIG_SQUASHFS_ZSTD",
}
"""Of fs/squashfs/Kconfig."""
_NEEDS: Mapping[str, bytes] = {
    "gzip": b"zlib_inflate",
    "lz4": b"LZ4_decompress_safe",
    "lzo": b"lzo1x_decompress_safe",
    "xz": b"xz_dec_run",
    "zstd": b"zstd_decompress_stream",
}
"""A symbol that the module takes from the kernel for each; older kernels have ZSTD_decompressStream."""
_MODULE = "kernel/fs/squashfs/squashfs.ko"
_MOST = 16 << 20
"""Bytes of the largest configuration or module; squashfs.ko has some 100 KiB."""


def readable_codecs(tree: Tree, version: str | None) -> frozenset[str] | None:
    """The names, as mksquashfs has them, of the compressions that a kernel of this version can read in the image.

    None where the image does not say. Empty where the kernel was built without squashfs.
    """
    if version is None:
        return None
    for path in (f"boot/config-{version}", f"lib/modules/{version}/config", f"lib/modules/{version}/build/.config"):
        text = _read(tree, path)
        if text:
            return _of_configuration(text)
    for suffix in ("", ".zst", ".xz", ".gz"):
        packed = _read(tree, f"lib/modules/{version}/{_MODULE}{suffix}")
        if packed:
            module = _unpacked(packed, suffix)
            return None if module is None else _of_module(module)
    return None


def _of_configuration(text: bytes) -> frozenset[str]:
    options = set(re.findall(rb"^(CONFIG_\w+)=[ym]$", text, re.MULTILINE))
    if b"CONFIG_SQUASHFS" not in options:
        return frozenset()
    return frozenset(name for name, option in _OPTIONS.items() if option in options)


def _of_module(module: bytes) -> frozenset[str]:
    found = {name for name, symbol in _NEEDS.items() if symbol in module}
    return frozenset(found | ({"zstd"} if b"ZSTD_decompressStream" in module else set()))


def _read(tree: Tree, path: str) -> bytes | None:
    file = tree.follow(path)
    if not isinstance(file, File):
        return None
    try:
        return read_small(file, path, _MOST)
    except (OSError, FormatError):
        return None  # what cannot be read says nothing


def _unpacked(data: bytes, suffix: str) -> bytes | None:
    """The module, or None where it is damaged."""
    try:
        match suffix:
            case ".zst":
                return zstd.ZstdDecompressor().decompress(data, _MOST)
            case ".xz":
                return lzma.LZMADecompressor(memlimit=4 * _MOST).decompress(data, _MOST)
            case ".gz":
                return zlib.decompressobj(31).decompress(data, _MOST)
            case _:
                return data
    except (zlib.error, lzma.LZMAError, zstd.ZstdError):
        return None
