"""Read GUID partition tables: the primary one, or the backup if that is damaged. UEFI specification, chapter 5

dissect.volume is not used: it verifies no checksums, ignores the backup, and makes each partition a sector too short.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ltsp.disk.partition.partition import Partition
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

MAGIC: Final = b"EFI PART"
SECTORS: Final = (512, 4096)
"""Sector sizes in bytes to try; nothing records which one applies."""
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_MOST: Final = 4 << 20
"""Bytes of all entries; usually 16 KiB."""
_MOST_PARTITIONS: Final = 1024
_UNUSED: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Gpt:
    sector: int
    partitions: tuple[Partition, ...]
    backup: bool
    """Whether the primary table is damaged."""


@dataclass(frozen=True, slots=True)
class _GptHeader:
    place: int
    other: int
    entries: int
    """Sector numbers, all three."""
    count: int
    size: int
    sum: int

    @classmethod
    def read(cls, blocks: Blocks, at: int, sector: int) -> _GptHeader | None:
        """The header in a sector, or None if it is invalid or records another sector."""
        data = blocks.read_at(at * sector, sector)
        if len(data) < sector or not data.startswith(MAGIC):
            return None
        fields = _HEADER.unpack_from(data)
        _magic, _revision, length, total, _zero, place, other, _first, _last, _id, entries, count, size, summed = fields
        if not _HEADER.size <= length <= sector or place != at:
            return None
        if zlib.crc32(data[:16] + bytes(4) + data[20:length]) != total:
            return None
        if size < _ENTRY.size or size % 8 or count * size > _MOST:
            return None
        return cls(place, other, entries, count, size, summed)


def read(blocks: Blocks, sectors: tuple[int, ...] = SECTORS) -> Gpt | None:
    """The table, or None if there is no trace of one.

    Raises FormatError if both tables are damaged.
    """
    for sector in sectors:
        found = _read_partitions(blocks, 1, sector)
        if found is not None:
            return Gpt(sector, found, backup=False)
    damaged = False
    for sector in sectors:
        primary = blocks.read_at(sector, _HEADER.size)
        # At the end, or where the damaged header points: the disk may have grown since.
        last = [blocks.size // sector - 1]
        if primary.startswith(MAGIC) and len(primary) == _HEADER.size:
            damaged = True
            last.append(_HEADER.unpack(primary)[6])
        for at in last:
            found = _read_partitions(blocks, at, sector) if at > 1 else None
            if found is not None:
                return Gpt(sector, found, backup=True)
    if damaged:
        raise FormatError("its partition table (GPT) is damaged, and so is the backup", "repair it with gdisk")
    return None


def _read_partitions(blocks: Blocks, at: int, sector: int) -> tuple[Partition, ...] | None:
    header = _GptHeader.read(blocks, at, sector)
    if header is None:
        return None
    data = blocks.read_at(header.entries * sector, header.count * header.size)
    if len(data) < header.count * header.size or zlib.crc32(data) != header.sum:
        return None
    found = []
    for index in range(header.count):
        kind, identity, first, last, _flags, name = _ENTRY.unpack_from(data, index * header.size)
        if kind == _UNUSED or last < first:
            continue
        found.append(
            Partition(
                index + 1,
                first * sector,
                (last - first + 1) * sector,
                str(UUID(bytes_le=kind)),
                name.decode("utf-16-le", "replace").partition("\0")[0],
                str(UUID(bytes_le=identity)),
            )
        )
    return tuple(found[:_MOST_PARTITIONS])
