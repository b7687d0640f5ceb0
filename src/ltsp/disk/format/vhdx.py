"""Read VHDX, the disk format of Hyper-V: dynamic and fixed, including changes still in the log.

Layout: [MS-VHDX]. dissect.hypervisor is not used: it ignores the log, so a disk that was not closed cleanly is stale,
and it reads past the end of a block into the next one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ltsp.disk.format.vhdx_log import replay_log
from ltsp.disk.mapping_tables import unpack_integers
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.checksum import crc32c_inverted
from ltsp.storage.extents import Extent, MappedBlocks

MAGIC: Final = b"vhdxfile"
_HEADER_OFFSETS: Final = (64 << 10, 128 << 10)
_HEADER: Final = struct.Struct("<4sIQ 32x 16sHHIQ")
_REGION_TABLE_OFFSETS: Final = (192 << 10, 256 << 10)
_REGION_TABLE_SIZE: Final = 64 << 10
_REGION: Final = struct.Struct("<16sQII")
_ITEM: Final = struct.Struct("<16sIII4x")
_MAX_REGIONS, _MAX_ITEMS = 2047, 2047

_BAT: Final = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
_METADATA: Final = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
_PARAMETERS: Final = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_SIZE: Final = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_SECTOR: Final = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_KNOWN_ITEMS: Final = {
    _PARAMETERS,
    _SIZE,
    _SECTOR,
    UUID("BECA12AB-B2E6-4523-93EF-C309E000C746"),  # the disk's identity
    UUID("CDA348C7-445D-4471-9CC9-E9885251C556"),  # its physical sector size
    UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"),  # its parent locator
}
_HAS_PARENT, _REQUIRED_ITEM = 2, 4
_FULL, _PARTIAL = 6, 7


@dataclass(frozen=True, slots=True)
class VhdxMetadata:
    block_size: int
    size: int
    sector_size: int
    """Bytes, like the fields above."""


def open_vhdx(file: Blocks) -> tuple[Blocks, int]:
    """The disk and its sector size in bytes. Raises FormatError, and SourceError if it is not a whole disk."""
    log, log_at, log_size = _find_log(file)
    if log.int:
        file = replay_log(file, log, log_at, log_size)
    regions = _read_regions(file)
    if _METADATA not in regions or _BAT not in regions:
        raise FormatError("its region table is incomplete")
    metadata = _read_metadata(file, *regions[_METADATA])
    size, block_size = metadata.size, metadata.block_size
    ratio = (metadata.sector_size << 23) // block_size
    count = -(-size // block_size)
    entries = count + (count - 1) // ratio if count else 0
    bat_at, bat_size = regions[_BAT]
    if entries * 8 > bat_size:
        raise FormatError(f"its block table is too small for a disk of {size} bytes")
    block_table = unpack_integers("<Q", read_exactly(file, bat_at, entries * 8, "the block table"))

    def locate(offset: int, wanted: int) -> Extent:
        index, within = divmod(offset, block_size)
        length = min(wanted, block_size - within)
        entry = block_table[index + index // ratio]
        state = entry & 7
        if state == _PARTIAL:
            raise FormatError(f"block {index} refers to a parent disk, but the image has none")
        if state != _FULL:
            return Extent(length)
        start = entry >> 20 << 20
        if not 1 << 20 <= start < file.size:
            raise FormatError(f"block {index} is at the invalid offset {start}")
        return Extent(length, file, start + within)

    return MappedBlocks(size, locate), metadata.sector_size


def _find_log(file: Blocks) -> tuple[UUID, int, int]:
    """Identity, offset and size of the log, from the newer valid header."""
    found = []
    for at in _HEADER_OFFSETS:
        data = file.read_at(at, 4096)
        if len(data) == 4096 and data.startswith(b"head") and _has_valid_checksum(data):
            _magic, _sum, sequence, log, _log_version, version, size, place = _HEADER.unpack_from(data)
            found.append((sequence, version, UUID(bytes_le=log), place, size))
    if not found:
        raise FormatError("both of its headers are damaged")
    _sequence, version, log, place, size = max(found, key=lambda header: header[0])
    if version != 1:
        raise SourceError(f"VHDX version {version} is not supported")
    return log, place, size


def _read_regions(file: Blocks) -> dict[UUID, tuple[int, int]]:
    """Offset and size of each region, from the first valid table."""
    for at in _REGION_TABLE_OFFSETS:
        data = file.read_at(at, _REGION_TABLE_SIZE)
        if len(data) == _REGION_TABLE_SIZE and data.startswith(b"regi") and _has_valid_checksum(data):
            break
    else:
        raise FormatError("both of its region tables are damaged")
    count = int.from_bytes(data[8:12], "little")
    if count > _MAX_REGIONS:
        raise FormatError(f"its region table is damaged: it claims {count} entries")
    regions: dict[UUID, tuple[int, int]] = {}
    for index in range(count):
        kind, place, size, required = _REGION.unpack_from(data, 16 + index * _REGION.size)
        name = UUID(bytes_le=kind)
        if required & 1 and name not in {_BAT, _METADATA}:
            raise SourceError(f"it uses the unsupported VHDX region {name}", "convert it with qemu-img convert")
        regions.setdefault(name, (place, size))
    return regions


def _read_metadata(file: Blocks, place: int, size: int) -> VhdxMetadata:
    table = read_exactly(file, place, min(size, 64 << 10), "the metadata")
    if not table.startswith(b"metadata") or len(table) < 32:
        raise FormatError("its metadata is damaged")
    count = int.from_bytes(table[10:12], "little")
    if count > _MAX_ITEMS or 32 + count * _ITEM.size > len(table):
        raise FormatError(f"its metadata is damaged: it claims {count} entries")
    items: dict[UUID, bytes] = {}
    for index in range(count):
        kind, at, length, flags = _ITEM.unpack_from(table, 32 + index * _ITEM.size)
        name = UUID(bytes_le=kind)
        if name in {_PARAMETERS, _SIZE, _SECTOR}:
            items[name] = read_exactly(file, place + at, min(length, 8), "the metadata")
        elif flags & _REQUIRED_ITEM and name not in _KNOWN_ITEMS:
            raise SourceError(f"it uses the unsupported VHDX feature {name}", "convert it with qemu-img convert")
    if {name: len(item) for name, item in items.items()} != {_PARAMETERS: 8, _SIZE: 8, _SECTOR: 4}:
        raise FormatError("its metadata is incomplete")
    block_size, flags = struct.unpack("<II", items[_PARAMETERS])
    found = VhdxMetadata(block_size, int.from_bytes(items[_SIZE], "little"), int.from_bytes(items[_SECTOR], "little"))
    if flags & _HAS_PARENT:
        raise SourceError("it is a snapshot that depends on another disk", "merge it with its parent first")
    if block_size & block_size - 1 or not 1 << 20 <= block_size <= 256 << 20:
        raise FormatError(f"its block size is invalid: {block_size} bytes")
    if found.sector_size not in {512, 4096}:
        raise FormatError(f"its sector size is invalid: {found.sector_size} bytes")
    return found


def _has_valid_checksum(data: bytes) -> bool:
    return crc32c_inverted(data[:4] + bytes(4) + data[8:]) == int.from_bytes(data[4:8], "little")
