"""Read qcow2 versions 2 and 3: the active state of an image and its backing files.

Rules: QEMU's docs/interop/qcow2.txt. dissect.hypervisor is not used: it ignores feature bits and `corrupt`, reads
version 3 fields from version 2 images, returns too few bytes if the backing file is shorter than the image, and trusts
lengths in the header without comparing them with the file.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ltsp.disk.mapping_tables import LruCache, decompress_cluster, unpack_integers
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, LazyBlocks, read_exactly
from ltsp.storage.extents import Extent, MappedBlocks, join_extents
from ltsp.tree.name import decode, printable

MAGIC: Final = b"QFI\xfb"
_VERSION_2: Final = struct.Struct(">4xIQIIQIIQ")
_VERSION_3: Final = struct.Struct(">72xQ16xII")
_COMPRESSION_OFFSET: Final = 104
_MAX_L1_SIZE: Final = 32 << 20
"""Bytes, as in QEMU."""
_MAX_BACKING_NAME_SIZE: Final = 1023
_CACHE_SIZE: Final = 16 << 20
"""Bytes of L2 tables to cache, and of decompressed clusters."""

_DIRTY, _CORRUPT, _COMPRESSION, _EXTENDED_L2 = 1, 2, 8, 16
_FEATURES: Final = {2: "external data file"}
"""Names of feature bits, for images without a name table. (`dirty` only means that reference counts may be wrong.)"""
_EXTENSION: Final = struct.Struct(">II")
_BACKING_FORMAT: Final = 0xE2792ACA
_FEATURE_NAME_TABLE: Final = 0x6803F857
_FEATURE: Final = struct.Struct("BB46s")

_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00

OpenBacking = Callable[[str, str], Blocks]
"""Opens the backing file, by its name and the format that the image records (may be empty)."""


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    version: int
    cluster_bits: int
    size: int
    """Size of the disk in bytes."""
    l1_entries: int
    l1_offset: int
    incompatible_features: int
    uses_zstd: bool
    backing_file: str
    """Name of the backing file as stored, or empty."""
    backing_format: str

    @property
    def is_dirty(self) -> bool:
        return bool(self.incompatible_features & _DIRTY)

    @property
    def has_extended_l2(self) -> bool:
        """Whether clusters have subclusters that are allocated separately."""
        return bool(self.incompatible_features & _EXTENDED_L2)

    @classmethod
    def parse(cls, file: Blocks) -> Qcow2Header:
        """Raises FormatError, and SourceError if the image is not supported."""
        start = read_exactly(file, 0, _VERSION_2.size, "the header")
        version, backing_at, backing_size, bits, size, encryption, entries, l1_offset = _VERSION_2.unpack(start)
        if version not in {2, 3}:
            raise SourceError(
                f"qcow version {version} is not supported", "convert it to qcow2 or raw with qemu-img convert"
            )
        if not 9 <= bits <= 21:
            raise FormatError(f"its cluster size is invalid: 2^{bits} bytes")
        if encryption:
            kind = {1: "AES", 2: "LUKS"}.get(encryption, f"method {encryption}")
            raise SourceError(f"it is encrypted ({kind})", "make an unencrypted copy with qemu-img convert")
        incompatible_features, length, compression = 0, _VERSION_2.size, 0
        if version == 3:
            fixed = read_exactly(file, 0, _VERSION_3.size, "the header")
            incompatible_features, _order, length = _VERSION_3.unpack(fixed)
            if length < _VERSION_3.size or length > 1 << bits:
                raise FormatError(f"its header length of {length} bytes is invalid")
            if incompatible_features & _COMPRESSION and length > _COMPRESSION_OFFSET:
                compression = read_exactly(file, _COMPRESSION_OFFSET, 1, "the header")[0]
        extensions = _read_extensions(file, length, min(1 << bits, backing_at or 1 << bits))
        _check_features(incompatible_features, compression, extensions.get(_FEATURE_NAME_TABLE, b""))
        if backing_size > _MAX_BACKING_NAME_SIZE:
            raise FormatError(
                f"the name of its backing file is too long: {backing_size} bytes (at most {_MAX_BACKING_NAME_SIZE})"
            )
        backing = read_exactly(file, backing_at, backing_size, "the backing file's name") if backing_at else b""
        if b"\0" in backing:
            raise FormatError("the name of its backing file is damaged")
        header = cls(
            version, bits, size, entries, l1_offset, incompatible_features, compression == 1,
            decode(backing), decode(extensions.get(_BACKING_FORMAT, b"")),
        )  # fmt: skip
        header._check()
        return header

    def _check(self) -> None:
        covered = self.cluster_bits * 2 - (4 if self.has_extended_l2 else 3)
        if self.has_extended_l2 and self.cluster_bits < 14:
            raise FormatError(f"its cluster size is too small for subclusters: 2^{self.cluster_bits} bytes")
        if self.l1_entries * 8 > _MAX_L1_SIZE:
            raise FormatError(f"its L1 table is too large: {self.l1_entries} entries (at most {_MAX_L1_SIZE // 8})")
        if self.size >= 1 << 63 or -(-self.size >> covered) > self.l1_entries:
            raise FormatError(f"its L1 table is too small for a disk of {self.size} bytes")


def _read_extensions(file: Blocks, start: int, end: int) -> dict[int, bytes]:
    """The header extensions by type, up to an invalid length."""
    area = file.read_at(start, max(end - start, 0))
    found: dict[int, bytes] = {}
    at = 0
    while at + _EXTENSION.size <= len(area):
        kind, size = _EXTENSION.unpack_from(area, at)
        at += _EXTENSION.size
        if kind == 0 or size > len(area) - at:
            break
        found.setdefault(kind, area[at : at + size])
        at += size + 7 & ~7
    return found


def _check_features(incompatible_features: int, compression: int, names: bytes) -> None:
    """Raises SourceError for unknown features, FormatError for a corrupt image."""
    if incompatible_features & _CORRUPT:
        raise FormatError("it is marked as corrupt", "repair it with qemu-img check -r all")
    if compression not in {0, 1}:
        raise SourceError(f"compression method {compression} is not supported", "convert it with qemu-img convert")
    named = dict(_FEATURES)
    for at in range(0, len(names) - _FEATURE.size + 1, _FEATURE.size):
        kind, bit, name = _FEATURE.unpack_from(names, at)
        if kind == 0:
            named.setdefault(bit, printable(decode(name.rstrip(b"\0"))))
    unknown = incompatible_features & ~(_DIRTY | _COMPRESSION | _EXTENDED_L2)
    unsupported = [named.get(bit, f"feature {bit}") for bit in range(64) if unknown >> bit & 1]
    if unsupported:
        raise SourceError(
            f"it requires unsupported features: {', '.join(unsupported)}", "convert it with qemu-img convert"
        )


def open_qcow2(file: Blocks, header: Qcow2Header, open_backing: OpenBacking) -> Blocks:
    """The disk. Raises FormatError, and what `open_backing` raises."""
    backing = open_backing(header.backing_file, header.backing_format) if header.backing_file else None
    return MappedBlocks(header.size, _ClusterMap(file, header, backing).locate)


class _ClusterMap:
    """Maps offsets on the disk to offsets in files."""

    def __init__(self, file: Blocks, header: Qcow2Header, backing: Blocks | None) -> None:
        self._file = file
        self._header = header
        self._backing = backing
        self._cluster_size = 1 << header.cluster_bits
        self._words_per_entry = 2 if header.has_extended_l2 else 1
        self._part_size = self._cluster_size // 32 if header.has_extended_l2 else self._cluster_size
        """Bytes of a subcluster, or of a cluster without subclusters."""
        self._l2_bits = header.cluster_bits - (4 if header.has_extended_l2 else 3)
        needed = -(-header.size >> self._l2_bits + header.cluster_bits)
        self._l1 = unpack_integers(">Q", read_exactly(file, header.l1_offset, needed * 8, "the L1 table"))
        self._l2 = LruCache(self._read_l2_table, _CACHE_SIZE // self._cluster_size)
        self._unpacked = LruCache(self._decompress_cluster, _CACHE_SIZE // self._cluster_size // 4)

    def locate(self, offset: int, size: int) -> Extent:
        return join_extents(self._locate_subcluster, offset, size)

    def _locate_subcluster(self, offset: int) -> Extent:
        """The rest of the cluster or subcluster at an offset."""
        bits = self._header.cluster_bits
        within = offset & self._part_size - 1
        left = self._part_size - within
        table = self._l1[offset >> bits + self._l2_bits] & _OFFSET
        if not table:
            covered = 1 << bits + self._l2_bits
            return self._locate_in_backing(offset, covered - (offset & covered - 1))
        at = (offset >> bits & (1 << self._l2_bits) - 1) * self._words_per_entry
        entries = self._l2(table)
        entry = entries[at]
        in_cluster = offset & self._cluster_size - 1
        if entry & _COMPRESSED:
            unpacked = LazyBlocks(self._cluster_size, partial(self._unpacked, entry & _COMPRESSED - 1))
            return Extent(self._cluster_size - in_cluster, unpacked, in_cluster)
        file_offset = entry & _OFFSET
        if self._header.has_extended_l2:
            part = in_cluster // self._part_size
            allocated, zero = entries[at + 1] >> part & 1, entries[at + 1] >> 32 + part & 1
            if allocated and (zero or not file_offset):
                raise FormatError(f"corrupt L2 entry at offset {offset}")
        else:
            allocated, zero = file_offset, self._header.version == 3 and entry & _ZERO
        if zero:
            return Extent(left)
        if not allocated:
            return self._locate_in_backing(offset, left)
        if file_offset & self._cluster_size - 1 or file_offset >= self._file.size:
            raise FormatError(f"the cluster of byte {offset} is at the invalid offset {file_offset}")
        return Extent(left, self._file, file_offset + in_cluster)

    def _locate_in_backing(self, offset: int, size: int) -> Extent:
        return Extent(size, self._backing, offset) if self._backing else Extent(size)

    def _read_l2_table(self, file_offset: int) -> array[int]:
        if file_offset & self._cluster_size - 1:
            raise FormatError(f"an L2 table is at the invalid offset {file_offset}")
        return unpack_integers(">Q", read_exactly(self._file, file_offset, self._cluster_size, "an L2 table"))

    def _decompress_cluster(self, descriptor: int) -> bytes:
        """`descriptor` has the offset in its low bits, and the number of sectors minus one above them."""
        bits = 62 - (self._header.cluster_bits - 8)
        file_offset = descriptor & (1 << bits) - 1
        stored = self._file.read_at(file_offset, ((descriptor >> bits) + 1) * 512 - (file_offset & 511))
        data = decompress_cluster("zstd" if self._header.uses_zstd else "deflate", stored, self._cluster_size)
        if len(data) != self._cluster_size:
            raise FormatError(f"the compressed cluster at {file_offset} is truncated")
        return data
