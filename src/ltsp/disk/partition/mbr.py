"""Read MBR partition tables, with logical partitions.

Rules: Linux block/partitions/msdos.c. Logical partitions are numbered from 5; offsets in the chain of extended
partitions are relative to the first. dissect.volume is not used: it follows a loop until the stack overflows, and gives
logical partitions the numbers of primary ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ltsp.disk.partition.partition import Partition
from ltsp.disk.probe import is_fat
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

PROTECTIVE: Final = 0xEE
_EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
_ENTRY: Final = struct.Struct("<B3xB3xII")
_MOST_LOGICAL: Final = 251
"""Linux allows 255 partitions on a disk."""


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
    found = tuple(MbrEntry(*_ENTRY.unpack_from(sector, 446 + 16 * index)) for index in range(4))
    # The boot code of a file system ends with the same two bytes.
    return found if all(entry.flag in {0, 0x80} for entry in found) else ()


def read_table(blocks: Blocks) -> tuple[MbrEntry, ...]:
    """The entries of the disk, or none if it has no MBR."""
    sector = blocks.read_at(0, 512)
    if is_fat(sector) or sector[3:11] in {b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"}:
        return ()
    found = parse_entries(sector)
    return found if any(entry.type and entry.start and entry.size for entry in found) else ()


def read_partitions(blocks: Blocks, sector: int = 512) -> tuple[Partition, ...]:
    """All partitions. Raises FormatError if the chain of logical partitions is a loop."""
    disk = blocks.read_at(440, 4)[::-1].hex()
    found: list[Partition] = []
    logical: list[MbrEntry] = []
    for number, entry in enumerate(read_table(blocks), 1):
        if entry.type in _EXTENDED and entry.size:
            logical += _read_logical_partitions(blocks, entry, sector)
        elif entry.type and entry.size:
            found.append(_make_partition(number, entry, sector, disk))
    found += [_make_partition(number, entry, sector, disk) for number, entry in enumerate(logical[:_MOST_LOGICAL], 5)]
    return tuple(found)


def _read_logical_partitions(blocks: Blocks, extended: MbrEntry, sector: int) -> list[MbrEntry]:
    """Each sector of the chain has a partition, relative to itself, and the next link, relative to the first."""
    found: list[MbrEntry] = []
    seen: set[int] = set()
    here = extended.start
    while len(found) < _MOST_LOGICAL:
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


def _make_partition(number: int, entry: MbrEntry, sector: int, disk: str) -> Partition:
    return Partition(
        number, entry.start * sector, entry.size * sector, f"{entry.type:02x}", uuid=f"{disk}-{number:02x}"
    )
