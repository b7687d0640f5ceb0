"""What a kernel was built with, as far as the image says: its options, and the compressions of squashfs and of initrds
that it supports.
"""

from __future__ import annotations

import lzma
import re
import sys
import zlib
from collections.abc import Mapping

from ltsp.errors import FormatError
from ltsp.tree.faults import read_small_file
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SQUASHFS_OPTIONS: Mapping[str, str] = {
    "gzip": "CONFIG_SQUASHFS_ZLIB",
    "lz4": "CONFIG_SQUASHFS_LZ4",
    "lzo": "CONFIG_SQUASHFS_LZO",
    "xz": "CONFIG_SQUASHFS_XZ",
    "zstd": "CONFIG_SQUASHFS_ZSTD",
}
"""fs/squashfs/Kconfig of Linux."""
_SQUASHFS_SYMBOLS: Mapping[str, bytes] = {
    "gzip": b"zlib_inflate",
    "lz4": b"LZ4_decompress_safe",
    "lzo": b"lzo1x_decompress_safe",
    "xz": b"xz_dec_run",
    "zstd": b"zstd_decompress_stream",
}
"""A symbol that the module imports for each; older kernels have ZSTD_decompressStream."""
_SQUASHFS_MODULE = "kernel/fs/squashfs/squashfs.ko"
_MAX_SIZE = 16 << 20
"""Maximum bytes of a file; squashfs.ko has some 100 KiB, and the configuration of a distribution's kernel 300 KiB."""


def find_squashfs_codecs(tree: Tree, version: str | None) -> frozenset[str] | None:
    """The compressions, by mksquashfs's names, that a kernel of this version supports for squashfs.

    None if the image does not say; empty if the kernel was built without squashfs.
    """
    if version is None:
        return None
    options = read_kernel_options(tree, version)
    if options is not None:
        return _codecs_in_config(options)
    for suffix in ("", ".zst", ".xz", ".gz"):
        packed = _read_file(tree, f"lib/modules/{version}/{_SQUASHFS_MODULE}{suffix}")
        if packed:
            module = _decompress(packed, suffix)
            return None if module is None else _codecs_in_module(module)
    return None


def choose_initrd_codec(tree: Tree, version: str) -> str:
    """The best initrd compression that the kernel supports: `zstd`, `gzip` or `none`. usr/Kconfig of Linux

    If the image does not say, gzip, which kernels have supported for twenty years.
    """
    options = read_kernel_options(tree, version)
    if options is None:
        return "gzip"
    known = (name for name, option in (("zstd", "CONFIG_RD_ZSTD"), ("gzip", "CONFIG_RD_GZIP")) if option in options)
    return next(known, "none")


def _codecs_in_config(options: frozenset[str]) -> frozenset[str]:
    if "CONFIG_SQUASHFS" not in options:
        return frozenset()
    return frozenset(name for name, option in _SQUASHFS_OPTIONS.items() if option in options)


def _codecs_in_module(module: bytes) -> frozenset[str]:
    found = {name for name, symbol in _SQUASHFS_SYMBOLS.items() if symbol in module}
    return frozenset(found | ({"zstd"} if b"ZSTD_decompressStream" in module else set()))


def _read_file(tree: Tree, path: str) -> bytes | None:
    file = tree.follow(path)
    if not isinstance(file, File):
        return None
    try:
        return read_small_file(file, path, _MAX_SIZE)
    except (OSError, FormatError):
        return None


def _decompress(data: bytes, suffix: str) -> bytes | None:
    """The module, or None if it is damaged."""
    try:
        match suffix:
            case ".zst":
                return zstd.ZstdDecompressor().decompress(data, _MAX_SIZE)
            case ".xz":
                return lzma.LZMADecompressor(memlimit=4 * _MAX_SIZE).decompress(data, _MAX_SIZE)
            case ".gz":
                return zlib.decompressobj(31).decompress(data, _MAX_SIZE)
            case _:
                return data
    except (zlib.error, lzma.LZMAError, zstd.ZstdError):
        return None


def read_kernel_options(tree: Tree, version: str) -> frozenset[str] | None:
    """The options, `CONFIG_…`, that are `y` or `m`; None if the image does not say."""
    for path in (f"boot/config-{version}", f"lib/modules/{version}/config", f"lib/modules/{version}/build/.config"):
        if text := _read_file(tree, path):
            return frozenset(name.decode("ascii") for name in re.findall(rb"^(CONFIG_\w+)=[ym]$", text, re.MULTILINE))
    return None
