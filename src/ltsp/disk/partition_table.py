"""Read partition tables: MBR with logical partitions, and GPT, the backup if the primary one is damaged.

MBR: Linux block/partitions/msdos.c. Logical partitions are numbered from 5; offsets in the chain of extended partitions
are relative to the first. GPT: UEFI specification, chapter 5.

dissect.volume is not used. Of an MBR, it follows a loop until the stack overflows, and gives logical partitions the
numbers of primary ones. Of a GPT, it verifies no checksums, ignores the backup, and makes each partition a sector too
short.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ltsp.disk import probe
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

_PROTECTIVE: Final = 0xEE
_EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
_MBR_ENTRY: Final = struct.Struct("<B3xB3xII")
_MAX_LOGICAL: Final = 251
"""Linux allows 255 partitions on a disk."""
_GPT_MAGIC: Final = b"EFI PART"
_GPT_SECTORS: Final = (512, 4096)
"""Sector sizes in bytes to try; nothing records which one applies."""
_GPT_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_GPT_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_MOST_GPT: Final = 4 << 20
"""Bytes of all entries; usually 16 KiB."""
_MOST_GPT_PARTITIONS: Final = 1024
_UNUSED: Final = bytes(16)
_DESCRIPTOR: Final = 32 << 10
"""Offset of the first descriptor of an ISO 9660 disc."""


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    offset: int
    size: int
    """Bytes, like `offset`."""
    type: str
    """`83` in an MBR, a GUID in a GPT; lower case."""
    name: str = ""
    """Only in a GPT; not safe to print."""
    uuid: str = ""
    """As in PARTUUID=, lower case."""


def read_partition_table(blocks: Blocks, sector: int, warnings: list[str]) -> tuple[str, tuple[Partition, ...]]:
    """The kind of the table, and its partitions."""
    held = probe.detect_kind(blocks)
    if held != probe.ISO9660:
        return _read_partitions(blocks, held, sector, warnings)
    try:
        table, found = _read_partitions(blocks, held, sector, [])
    except FormatError:
        return "none", ()
    # A hybrid ISO has a table for the firmware only, with a partition that begins before the ISO 9660 descriptor.
    # Without such a partition the table is newer, and the descriptor is left over from earlier content.
    disc = any(partition.offset <= _DESCRIPTOR for partition in found)
    return ("none", ()) if disc or not found else (table, found)


def _read_partitions(blocks: Blocks, held: str, sector: int, warnings: list[str]) -> tuple[str, tuple[Partition, ...]]:
    entries = read_mbr(blocks)
    protected = any(entry.type == _PROTECTIVE for entry in entries)
    if protected or (not entries and held in {probe.NOTHING, probe.UNKNOWN}):
        found = read_gpt(blocks, (sector,) if sector else _GPT_SECTORS)
        if found is not None:
            if found.backup:
                warnings.append("the primary partition table (GPT) is damaged: using the backup")
            return "GPT", found.partitions
        if protected and all(entry.type in {0, _PROTECTIVE} for entry in entries):
            raise FormatError(
                "its partition table (GPT) is damaged or missing, and so is the backup", "repair it with gdisk"
            )
    return ("MBR", read_mbr_partitions(blocks, sector or 512)) if entries else ("none", ())


@dataclass(frozen=True, slots=True)
class MbrEntry:
    flag: int
    type: int
    start: int
    size: int
    """Sectors, like `start`."""


def parse_entries(sector: bytes) -> tuple[MbrEntry, ...]:
    """The four entries of a table, or none if the sector holds no table."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return ()
    found = tuple(MbrEntry(*_MBR_ENTRY.unpack_from(sector, 446 + 16 * index)) for index in range(4))
    # The boot code of a file system ends with the same two bytes.
    return found if all(entry.flag in {0, 0x80} for entry in found) else ()


def read_mbr(blocks: Blocks) -> tuple[MbrEntry, ...]:
    """The entries of the disk, or none if it has no MBR."""
    sector = blocks.read_at(0, 512)
    if probe.is_fat(sector) or sector[3:11] in {b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"}:
        return ()
    found = parse_entries(sector)
    return found if any(entry.type and entry.start and entry.size for entry in found) else ()


def read_mbr_partitions(blocks: Blocks, sector: int = 512) -> tuple[Partition, ...]:
    """All partitions. Raises FormatError if the chain of logical partitions is a loop."""
    disk = blocks.read_at(440, 4)[::-1].hex()
    found: list[Partition] = []
    logical: list[MbrEntry] = []
    for number, entry in enumerate(read_mbr(blocks), 1):
        if entry.type in _EXTENDED and entry.size:
            logical += _read_logical_partitions(blocks, entry, sector)
        elif entry.type and entry.size:
            found.append(_make_mbr_partition(number, entry, sector, disk))
    found += [
        _make_mbr_partition(number, entry, sector, disk) for number, entry in enumerate(logical[:_MAX_LOGICAL], 5)
    ]
    return tuple(found)


def _read_logical_partitions(blocks: Blocks, extended: MbrEntry, sector: int) -> list[MbrEntry]:
    """Each sector of the chain has a partition, relative to itself, and the next link, relative to the first."""
    found: list[MbrEntry] = []
    seen: set[int] = set()
    here = extended.start
    while len(found) < _MAX_LOGICAL:
        if here in seen:
            raise FormatError("its logical partitions form a loop")
        seen.add(here)
        following = None
        for entry in parse_entries(blocks.read_at(here * sector, 512)):
            if entry.type in _EXTENDED:
                following = following or (entry if entry.size else None)
            elif entry.type and entry.size:
                found.append(MbrEntry(entry.flag, entry.type, here + entry.start, entry.size))
        if following is None:
            break
        here = extended.start + following.start
    return found


def _make_mbr_partition(number: int, entry: MbrEntry, sector: int, disk: str) -> Partition:
    return Partition(
        number, entry.start * sector, entry.size * sector, f"{entry.type:02x}", uuid=f"{disk}-{number:02x}"
    )


@dataclass(frozen=True, slots=True)
class Gpt:
    sector_size: int
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
    def read_from(cls, blocks: Blocks, at: int, sector: int) -> _GptHeader | None:
        """The header in a sector, or None if it is invalid or records another sector."""
        data = blocks.read_at(at * sector, sector)
        if len(data) < sector or not data.startswith(_GPT_MAGIC):
            return None
        fields = _GPT_HEADER.unpack_from(data)
        _magic, _revision, length, total, _zero, place, other, _first, _last, _id, entries, count, size, summed = fields
        if not _GPT_HEADER.size <= length <= sector or place != at:
            return None
        if zlib.crc32(data[:16] + bytes(4) + data[20:length]) != total:
            return None
        if size < _GPT_ENTRY.size or size % 8 or count * size > _MOST_GPT:
            return None
        return cls(place, other, entries, count, size, summed)


def read_gpt(blocks: Blocks, sectors: tuple[int, ...] = _GPT_SECTORS) -> Gpt | None:
    """The table, or None if there is no trace of one.

    Raises FormatError if both tables are damaged.
    """
    for sector in sectors:
        found = _read_gpt_partitions(blocks, 1, sector)
        if found is not None:
            return Gpt(sector, found, backup=False)
    damaged = False
    for sector in sectors:
        primary = blocks.read_at(sector, _GPT_HEADER.size)
        # At the end, or where the damaged header points: the disk may have grown since.
        last = [blocks.size // sector - 1]
        if primary.startswith(_GPT_MAGIC) and len(primary) == _GPT_HEADER.size:
            damaged = True
            last.append(_GPT_HEADER.unpack(primary)[6])
        for at in last:
            found = _read_gpt_partitions(blocks, at, sector) if at > 1 else None
            if found is not None:
                return Gpt(sector, found, backup=True)
    if damaged:
        raise FormatError("its partition table (GPT) is damaged, and so is the backup", "repair it with gdisk")
    return None


def _read_gpt_partitions(blocks: Blocks, at: int, sector: int) -> tuple[Partition, ...] | None:
    header = _GptHeader.read_from(blocks, at, sector)
    if header is None:
        return None
    data = blocks.read_at(header.entries * sector, header.count * header.size)
    if len(data) < header.count * header.size or zlib.crc32(data) != header.sum:
        return None
    found = []
    for index in range(header.count):
        kind, identity, first, last, _flags, name = _GPT_ENTRY.unpack_from(data, index * header.size)
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
    return tuple(found[:_MOST_GPT_PARTITIONS])
