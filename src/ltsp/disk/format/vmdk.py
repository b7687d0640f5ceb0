"""Read VMDK, the disk format of VMware: flat, sparse, split and stream-optimised.

A disk is one sparse file, or has a descriptor that lists its extents and their files:

    RW 4192256 SPARSE "disk-s001.vmdk"
    RW 2097152 FLAT "disk-flat.vmdk" 0

Layout: VMware's Virtual Disk Format 1.1. dissect.hypervisor is not used: it opens extents itself, at any path that the
descriptor names, drops extents of zeros, and skips lines that it cannot parse.
"""

from __future__ import annotations

import re
import struct
from array import array
from dataclasses import dataclass
from functools import partial
from typing import Final

from ltsp.disk.mapping_tables import SECTOR_SIZE, LruCache, decompress_cluster, unpack_integers
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage.blocks import Blocks, FileBlocks, LazyBlocks, OpenSibling, read_exactly
from ltsp.storage.extents import Extent, MappedBlocks, chain_extents, join_extents
from ltsp.tree.name import decode, printable

SPARSE_MAGIC: Final = b"KDMV"
REDO_MAGICS: Final = (b"COWD", b"\xbe\xba\xfe\xca\0\0\0\0")
"""Formats of ESXi that hold only changes to another disk."""
_HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH")
_HEADER_IN_FOOTER: Final = 0xFFFF_FFFF_FFFF_FFFF
_ZERO_GRAINS, _COMPRESSED, _MARKERS = 4, 1 << 16, 1 << 17
_DEFLATE: Final = 1
_MAX_GRAIN_SECTORS: Final = 32768
"""Sectors."""
_MAX_TABLE_ENTRIES: Final = 512
"""Entries of a grain table, as in QEMU."""
_CACHE_SIZE: Final = 4 << 20
_MARKER: Final = struct.Struct("<QI")


@dataclass(frozen=True, slots=True)
class VmdkHeader:
    """A sparse header; sizes and offsets are in sectors."""

    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    table_entries: int
    """Entries of a grain table."""
    directory_offset: int
    compression: int

    @classmethod
    def parse(cls, data: bytes) -> VmdkHeader:
        """Raises FormatError."""
        if len(data) < _HEADER.size or not data.startswith(SPARSE_MAGIC):
            raise FormatError("the header is damaged")
        fields = _HEADER.unpack_from(data)
        (
            _magic,
            version,
            flags,
            capacity,
            grain,
            text_at,
            text_size,
            table,
            _rgd,
            directory,
            _over,
            _unclean,
            _nl,
            compression_method,
        ) = fields
        if version not in {1, 2, 3}:
            raise SourceError(f"VMDK version {version} is not supported")
        if grain & grain - 1 or not 1 <= grain <= _MAX_GRAIN_SECTORS or not 1 <= table <= _MAX_TABLE_ENTRIES:
            raise FormatError(f"its grain size ({grain} sectors) or grain table size ({table} entries) is invalid")
        if flags & _COMPRESSED and compression_method != _DEFLATE:
            raise SourceError(f"compression method {compression_method} is not supported")
        return cls(flags, capacity, grain, text_at, text_size, table, directory, compression_method)


def open_sparse(file: Blocks) -> Blocks:
    """A disk in one sparse file. Raises FormatError, and SourceError if it is not a whole disk."""
    header = _read_header(file)
    if header.descriptor_offset and header.descriptor_size:
        size = min(header.descriptor_size * SECTOR_SIZE, _LARGEST_DESCRIPTOR)
        VmdkDescriptor.parse(read_exactly(file, header.descriptor_offset * SECTOR_SIZE, size, "the descriptor"))
    return _open_sparse_extent(file, header)


def open_descriptor(file: Blocks, open_sibling: OpenSibling) -> Blocks:
    """A disk of one file or several, from its descriptor. Also raises whatever `open_sibling` raises."""
    if file.size > _LARGEST_DESCRIPTOR:
        raise FormatError(f"its descriptor is too large: {file.size} bytes")
    extents = VmdkDescriptor.parse(file.read_at(0, file.size)).extents
    if not extents:
        raise FormatError("its descriptor has no extents")
    files: dict[str, Blocks] = {}
    parts = [_open_extent(extent, files, open_sibling) for extent in extents if extent.size]
    return chain_extents(parts)


def _open_extent(extent: VmdkExtent, files: dict[str, Blocks], open_sibling: OpenSibling) -> Extent:
    size = extent.size * SECTOR_SIZE
    if extent.kind == "ZERO":
        return Extent(size)
    if extent.name not in files:
        file = FileBlocks.of(open_sibling(extent.name))
        try:
            files[extent.name] = _open_sparse_extent(file, _read_header(file)) if extent.kind == "SPARSE" else file
        except LtspError as error:
            raise type(error)(f"its extent {printable(extent.name)}: {error.message}", error.hint) from error
    blocks, start = files[extent.name], extent.start * SECTOR_SIZE
    if start + size > blocks.size:
        raise FormatError(f"its extent {printable(extent.name)} is truncated", "copy all files of the disk again")
    return Extent(size, blocks, start)


def _read_header(file: Blocks) -> VmdkHeader:
    header = VmdkHeader.parse(file.read_at(0, SECTOR_SIZE))
    if header.directory_offset == _HEADER_IN_FOOTER:
        # Stream-optimised: the real header is the footer, followed only by the end-of-stream marker.
        header = VmdkHeader.parse(file.read_at(max(file.size - 2 * SECTOR_SIZE, 0), SECTOR_SIZE))
    return header


def _open_sparse_extent(file: Blocks, header: VmdkHeader) -> Blocks:
    return MappedBlocks(header.capacity * SECTOR_SIZE, _GrainMap(file, header).locate)


class _GrainMap:
    """Maps offsets in an extent to offsets in its file."""

    def __init__(self, file: Blocks, header: VmdkHeader) -> None:
        self._file = file
        self._header = header
        self._grain = header.grain_size * SECTOR_SIZE
        tables = -(-header.capacity // (header.grain_size * header.table_entries))
        place = header.directory_offset * SECTOR_SIZE
        self._directory = unpack_integers("<I", read_exactly(file, place, tables * 4, "the directory"))
        self._table = LruCache(self._read_table, _CACHE_SIZE // 4 // header.table_entries)
        self._unpacked = LruCache(self._decompress_grain, _CACHE_SIZE // self._grain)

    def locate(self, offset: int, size: int) -> Extent:
        return join_extents(self._locate_grain, offset, size)

    def _locate_grain(self, offset: int) -> Extent:
        """The rest of the grain at an offset."""
        number, within = divmod(offset, self._grain)
        in_directory, in_table = divmod(number, self._header.table_entries)
        left = self._grain - within
        table = self._directory[in_directory]
        if not table:
            return Extent(left + (self._header.table_entries - in_table - 1) * self._grain)
        place = self._table(table)[in_table]
        if place == 0 or (place == 1 and self._header.flags & _ZERO_GRAINS):
            return Extent(left)
        if place * SECTOR_SIZE >= self._file.size:
            raise FormatError(f"the grain of byte {offset} is beyond the end of the file")
        if self._header.flags & _COMPRESSED:
            return Extent(left, LazyBlocks(self._grain, partial(self._unpacked, place)), within)
        return Extent(left, self._file, place * SECTOR_SIZE + within)

    def _read_table(self, sector: int) -> array[int]:
        return unpack_integers(
            "<I", read_exactly(self._file, sector * SECTOR_SIZE, self._header.table_entries * 4, "a grain table")
        )

    def _decompress_grain(self, sector: int) -> bytes:
        place = sector * SECTOR_SIZE
        if self._header.flags & _MARKERS:
            _lba, size = _MARKER.unpack(read_exactly(self._file, place, _MARKER.size, "a grain"))
            place += _MARKER.size
        else:
            size = int.from_bytes(read_exactly(self._file, place, 4, "a grain"), "little")
            place += 4
        # Incompressible data grows a little.
        if size > 2 * self._grain + SECTOR_SIZE:
            raise FormatError(f"the grain at {place} has an invalid compressed size: {size} bytes")
        return decompress_cluster("zlib", read_exactly(self._file, place, size, "a grain"), self._grain)


DESCRIPTOR_MAGIC: Final = b"# Disk DescriptorFile"
_LARGEST_DESCRIPTOR: Final = 1 << 20
"""Bytes of a descriptor in a file of its own."""
_MAX_EXTENTS: Final = 4096
_EXTENT: Final = re.compile(
    r"""(?:RW|RDONLY|NOACCESS)\s++(\d{1,15}+)\s++(\w++)(?:\s++"([^"]*+)"(?:\s++(\d{1,15}+))?+.*+)?+$""", re.ASCII
)
_SETTING: Final = re.compile(r"""([\w.]++)\s*+=\s*+"?+([^"]*+)"?+$""", re.ASCII)
_NO_PARENT: Final = "ffffffff"
UNSUPPORTED_KINDS: Final = {
    "SESPARSE": "an ESXi redo log",
    "VMFSSPARSE": "an ESXi redo log",
    "VMFSRDM": "an ESXi raw device",
    "VMFSRAW": "an ESXi raw device",
}


@dataclass(frozen=True, slots=True)
class VmdkExtent:
    size: int
    """Sectors."""
    kind: str
    """FLAT, SPARSE or ZERO; VMFS is FLAT."""
    name: str
    start: int
    """Sectors in the file."""


@dataclass(frozen=True, slots=True)
class VmdkDescriptor:
    kind: str
    """The createType: monolithicSparse, twoGbMaxExtentFlat …"""
    extents: tuple[VmdkExtent, ...]

    @classmethod
    def parse(cls, data: bytes) -> VmdkDescriptor:
        """Raises FormatError, and SourceError if the image is not a whole disk."""
        settings: dict[str, str] = {}
        extents: list[VmdkExtent] = []
        for line in map(str.strip, decode(data.partition(b"\0")[0]).splitlines()):
            if match := _EXTENT.match(line):
                size, kind, name, start = match.groups()
                if kind in UNSUPPORTED_KINDS:
                    raise SourceError(
                        f"it contains {UNSUPPORTED_KINDS[kind]}", "merge its snapshots, or export the machine as OVF"
                    )
                kind = "FLAT" if kind == "VMFS" else kind
                if kind not in {"FLAT", "SPARSE", "ZERO"} or (kind != "ZERO" and not name):
                    raise FormatError(f"its descriptor has an invalid line: {printable(line[:80])}")
                extents.append(VmdkExtent(int(size), kind, name or "", int(start or 0)))
            elif match := _SETTING.match(line):
                settings.setdefault(match[1].lower(), match[2])
        if settings.get("parentcid", _NO_PARENT).lower() != _NO_PARENT:
            parent = printable(settings.get("parentfilenamehint", "another disk"))
            raise SourceError(f"it is a snapshot that depends on {parent}", "merge its snapshots, or make a full clone")
        if len(extents) > _MAX_EXTENTS:
            raise FormatError(f"its descriptor lists too many extents: {len(extents)}")
        return cls(settings.get("createtype", ""), tuple(extents))
