"""Compression of image blocks: the settings, their record in the image, and the codecs."""

from __future__ import annotations

import importlib
import lzma
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

import deflate

from ltsp import errors
from ltsp.errors import FormatError, UsageError
from ltsp.squashfs.format import METADATA_SIZE
from ltsp.squashfs.superblock import MAX_BLOCK_SIZE, CompressorId
from ltsp.storage import lzo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_COMPRESSOR_IDS: Final[Mapping[str, CompressorId]] = {
    "gzip": CompressorId.GZIP,
    "zstd": CompressorId.ZSTD,
    "xz": CompressorId.XZ,
    "lz4": CompressorId.LZ4,
    "lzma": CompressorId.LZMA,
    "lzo": CompressorId.LZO,
    # Nothing is compressed, so the compressor is irrelevant; mksquashfs records gzip, too.
    "none": CompressorId.GZIP,
}
_LEVELS: Final[Mapping[str, range]] = {"gzip": range(1, 13), "zstd": range(1, 23), "xz": range(10)}
"""As libdeflate, zstd and liblzma count."""
_PRESETS: Final[Mapping[str, Mapping[str, int]]] = {
    "fast": {"gzip": 4, "zstd": 3, "xz": 0},
    "balanced": {"gzip": 6, "zstd": 9, "xz": 6},
    "small": {"gzip": 12, "zstd": 19, "xz": 9},
}
WRITABLE: Final = ("gzip", "zstd", "xz", "lz4", "none")
"""Codecs for writing images. Linux also supports lzo, but few kernels enable it."""
PRESETS: Final = tuple(_PRESETS)

_ZLIB_LEVELS: Final = range(1, 10)
"""gzip levels that unsquashfs accepts; libdeflate's 10 to 12 are not recorded."""
_ZLIB_WINDOW_BITS: Final = 15
"""Base-2 logarithm of the largest window in bytes."""
_DEFAULT_GZIP_LEVEL: Final = 9
_DEFAULT_ZSTD_LEVEL: Final = 15
"""Levels implied by a missing record, in mksquashfs and unsquashfs."""
_LZ4_VERSION: Final = 1
_LZ4_HIGH: Final = 1
_LZ4_HIGH_LEVEL: Final = 12
"""Level of -Xhc. lz4_wrapper.c of squashfs-tools"""


@dataclass(frozen=True, slots=True)
class Codec:
    """Compression and decompression with a codec. It has state: only one thread may use it at a time."""

    compress: Callable[[bytes], bytes | bytearray]
    decompress: Callable[[bytes, int], bytes | bytearray]
    """Takes the compressed bytes and the maximum decompressed size. Raises FormatError if they are damaged."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec by name, and its level."""

    name: str = "gzip"
    level: int | None = None
    """None is the balanced preset's; xz's is liblzma's preset; lz4 and none have no levels."""
    high_compression: bool = False
    """lz4 alone: mksquashfs's -Xhc."""

    def __post_init__(self) -> None:
        if self.name not in _COMPRESSOR_IDS:
            raise UsageError(f"unknown compressor {self.name!r}", f"choose one of {', '.join(WRITABLE)}")
        levels = _LEVELS.get(self.name, range(0))
        if self.level is None:
            object.__setattr__(self, "level", _PRESETS["balanced"].get(self.name))
        elif self.level not in levels:
            allowed = f"choose {levels[0]} to {levels[-1]}" if levels else "omit it"
            raise UsageError(f"{self.name} has no compression level {self.level}", allowed)
        if self.high_compression and self.name != "lz4":
            raise UsageError(f"{self.name} has no high compression mode", "give a compression level")

    @classmethod
    def preset(cls, name: str, preset: str) -> Compression:
        """The preset `fast`, `balanced` or `small` of a codec."""
        if preset not in _PRESETS:
            raise UsageError(f"unknown preset {preset!r}", f"choose one of {', '.join(PRESETS)}")
        return cls(name, _PRESETS[preset].get(name), high_compression=name == "lz4" and preset == "small")

    @classmethod
    def parse(cls, compressor: CompressorId, options: bytes) -> Compression:
        """The compression recorded in an image; `options` is empty if the superblock has no record.

        Raises FormatError if the record is damaged.
        """
        name = compressor.name.lower()
        try:
            match compressor:
                case CompressorId.GZIP:
                    return cls(name, struct.unpack("<ihh", options)[0] if options else _DEFAULT_GZIP_LEVEL)
                case CompressorId.ZSTD:
                    return cls(name, struct.unpack("<i", options)[0] if options else _DEFAULT_ZSTD_LEVEL)
                case CompressorId.LZ4:
                    version, flags = struct.unpack("<ii", options)
                    if version != _LZ4_VERSION:
                        raise FormatError(
                            f"unsupported lz4 format version {version}: Linux supports only {_LZ4_VERSION}"
                        )
                    return cls(name, high_compression=bool(flags & _LZ4_HIGH))
                case _:
                    return cls(name)
        except (struct.error, UsageError) as error:
            raise FormatError(f"the options of {name} in the superblock are damaged") from error

    @property
    def compressor(self) -> CompressorId:
        return _COMPRESSOR_IDS[self.name]

    def options(self) -> bytes:
        """The record that follows the superblock; empty if readers do not need it."""
        match self.name, self.level:
            case "gzip", int(level) if level in _ZLIB_LEVELS and level != _DEFAULT_GZIP_LEVEL:
                return struct.pack("<ihh", level, _ZLIB_WINDOW_BITS, 0)
            case "zstd", int(level) if level != _DEFAULT_ZSTD_LEVEL:
                return struct.pack("<i", level)
            case "lz4", _:
                return struct.pack("<ii", _LZ4_VERSION, _LZ4_HIGH if self.high_compression else 0)
            case _:
                return b""

    def codec(self, block_size: int) -> Codec:
        """A new codec, for one thread, for blocks of at most `block_size` bytes and for metadata.

        Raises LtspError if a library is missing.
        """
        match self.name:
            case "gzip":
                return _gzip_codec(self.level or 0)
            case "zstd":
                return _zstd_codec(self.level or 0)
            case "xz":
                return _xz_codec(self.level or 0, block_size)
            case "lz4":
                return _lz4_codec(self.high_compression)
            case "lzma":
                return Codec(_make_refusing_compressor(self.name), _decompress_lzma)
            case "lzo":
                return Codec(_make_refusing_compressor(self.name), _decompress_lzo)
            case _:
                return Codec(bytes, _check_block_size)

    def __str__(self) -> str:
        """For people: `zstd 9`."""
        if self.level is None:
            return f"{self.name} high" if self.high_compression else self.name
        return f"{self.name} {self.level}"


def _damage_error(name: str, error: Exception) -> FormatError:
    return FormatError(f"a block is damaged: {name} cannot decompress it: {error}")


def _gzip_codec(level: int) -> Codec:
    def compress(data: bytes) -> bytearray:
        return deflate.zlib_compress(data, level)

    def decompress(data: bytes, max_size: int) -> bytearray:
        try:
            return deflate.zlib_decompress(data, max_size)
        except (deflate.DeflateError, ValueError) as error:
            raise _damage_error("gzip", error) from error

    return Codec(compress, decompress)


def _zstd_codec(level: int) -> Codec:
    compressor = zstd.ZstdCompressor(level=level)
    # No block needs a larger window, and Linux allocates no more memory than that.
    limits: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_BLOCK_SIZE.bit_length() - 1}

    def compress(data: bytes) -> bytes:
        # Frames written in one call record their size, so their window never exceeds the block.
        return compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)

    def decompress(data: bytes, max_size: int) -> bytes:
        decompressor = zstd.ZstdDecompressor(options=limits)
        try:
            decompressed = decompressor.decompress(data, max_size)
        except zstd.ZstdError as error:
            raise _damage_error("zstd", error) from error
        # A frame that decompresses to exactly `maximum` bytes may be at its end without reporting it.
        if not decompressor.eof and (len(decompressed) < max_size or decompressor.decompress(b"", 1)):
            raise FormatError("a block is damaged: its zstd frame is truncated or too long")
        return decompressed

    return Codec(compress, decompress)


def _xz_codec(preset: int, block_size: int) -> Codec:
    def filters(dictionary: int) -> list[dict[str, int]]:
        return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary}]

    # Without a record Linux allocates a dictionary as large as a block, or as a metadata block if that is larger.
    # A small dictionary for small blocks saves time: its tables are cleared for each.
    small, large = filters(METADATA_SIZE), filters(max(block_size, METADATA_SIZE))

    def compress(data: bytes) -> bytes:
        chain = small if len(data) <= METADATA_SIZE else large
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, None, chain)  # Linux supports no other check

    return Codec(compress, lambda data, max_size: _decompress_xz(data, max_size, lzma.FORMAT_XZ))


def _decompress_xz(data: bytes, max_size: int, kind: int) -> bytes:
    # Memory for the largest dictionary that squashfs allows, and liblzma's own tables.
    decompressor = lzma.LZMADecompressor(kind, memlimit=MAX_BLOCK_SIZE * 32)
    name = "xz" if kind == lzma.FORMAT_XZ else "lzma"
    try:
        decompressed = decompressor.decompress(data, max_size)
        # A stream that decompresses to exactly `maximum` bytes may be at its end without reporting it.
        excess = b"" if decompressor.eof or len(decompressed) < max_size else decompressor.decompress(b"", 1)
    except (lzma.LZMAError, MemoryError) as error:
        raise _damage_error(name, error) from error
    if excess or (not decompressor.eof and len(decompressed) < max_size):
        raise FormatError(f"a block is damaged: its {name} stream is truncated or too long")
    return decompressed


def _decompress_lzma(data: bytes, max_size: int) -> bytes:
    return _decompress_xz(data, max_size, lzma.FORMAT_ALONE)


def _lz4_codec(high_compression: bool) -> Codec:
    block = _import_library("lz4", "lz4.block")
    mode: dict[str, str | int] = (
        {"mode": "high_compression", "compression": _LZ4_HIGH_LEVEL} if high_compression else {}
    )

    def compress(data: bytes) -> bytes:
        packed: bytes = block.compress(data, store_size=False, **mode)
        return packed

    def decompress(data: bytes, max_size: int) -> bytes:
        try:
            decompressed: bytes = block.decompress(data, uncompressed_size=max_size)
        except (block.LZ4BlockError, ValueError) as error:
            raise _damage_error("lz4", error) from error
        return decompressed

    return Codec(compress, decompress)


def _decompress_lzo(data: bytes, max_size: int) -> bytes:
    try:
        return lzo.decompress(data, max_size)
    except FormatError as error:
        raise _damage_error("lzo", error) from error


def _import_library(name: str, module: str) -> ModuleType:
    with errors.require_library(f"compression by {name}", name, name):
        return importlib.import_module(module)


def _make_refusing_compressor(name: str) -> Callable[[bytes], bytes]:
    def compress(_data: bytes) -> bytes:
        raise UsageError(f"{name} images can be read, but not written", f"choose one of {', '.join(WRITABLE)}")

    return compress


def _check_block_size(data: bytes, max_size: int) -> bytes:
    if len(data) > max_size:
        raise FormatError(f"a block is damaged: it has {len(data)} bytes, at most {max_size} are allowed")
    return data
