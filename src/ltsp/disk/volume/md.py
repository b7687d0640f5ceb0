"""Read the superblocks of Linux software RAID; each member of a RAID1 holds all its data.

Layout: linux/raid/md_p.h. Version 0.90 has its superblock near the end, 1.0 at the end, 1.1 at the start and 1.2 at
4 KiB. dissect.volume is not used: it verifies no checksums, and takes a member being rebuilt for a complete one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ltsp.disk import probe
from ltsp.disk.mapping_tables import SECTOR_SIZE, unpack_integers
from ltsp.storage.blocks import Blocks
from ltsp.tree.name import decode

_MAGIC: Final = 0xA92B4EFC.to_bytes(4, "little")
_RESERVED_SIZE: Final = 64 << 10
"""Bytes at the end, aligned to their size, with the superblock of 0.90 at their start."""
_SUPERBLOCK_0: Final = struct.Struct("<IIIIIIIiIIII I III")
_SUPERBLOCK_1: Final = struct.Struct("<4xII4x16s32sQiIQIIi 28x QQQQIxxxx16s 8x QQQII")
_MAX_ROLES: Final = 1920
_REBUILDING_FLAG, _RESHAPING_FLAG = 2, 4
_SPARE: Final = 0xFFFF
_NO_DATA: Final = {
    _SPARE: "it is a RAID spare",
    0xFFFE: "it is marked as a failed RAID disk",
    0xFFFD: "it is a RAID journal",
}
"""Roles of members without the data."""
_LEVELS: Final = {-1: "linear", 0: "RAID0", 1: "RAID1", 4: "RAID4", 5: "RAID5", 6: "RAID6", 10: "RAID10"}


@dataclass(frozen=True, slots=True)
class MdMember:
    array_uuid: str
    """The UUID in the notation of mdadm."""
    name: str
    """`host:root`, or empty; not safe to print."""
    version: str
    """Of the metadata: `1.2`."""
    level: str
    offset: int
    size: int
    """Offset and size in bytes of the data in this member."""
    events: int
    """Grows with each change of the array: the member with the highest count is the most recent."""
    fault: str = ""
    """Why its data is not that of the array; empty if it is."""


def read_superblock(blocks: Blocks) -> MdMember | None:
    """The member described by the superblock, or None without a valid superblock."""
    end = blocks.size // SECTOR_SIZE
    # A superblock records its own offset, so one at the end of the last partition is not taken for the disk's.
    places = (8, 0, (end - 16) & ~7)
    for version, place in zip(("1.2", "1.1", "1.0"), places, strict=True):
        if place >= 0:
            found = _read_version_1(blocks, place, version)
            if found is not None:
                return found
    return _read_version_0(blocks)


def _read_version_1(blocks: Blocks, place: int, version: str) -> MdMember | None:
    data = blocks.read_at(place * SECTOR_SIZE, 256 + 2 * _MAX_ROLES)
    if len(data) < 256 or not data.startswith(_MAGIC):
        return None
    major, features, identity, name, _ctime, level, _layout, size, _chunk, _disks, _bitmap, *rest = (
        _SUPERBLOCK_1.unpack_from(data)
    )
    data_at, data_size, own_place, _recovered, number, _device, _utime, events, _resync, _sum, roles = rest
    if major != 1 or own_place != place or roles > _MAX_ROLES or not _has_valid_checksum(data, 256 + 2 * roles):
        return None
    role = int.from_bytes(data[256 + 2 * number : 258 + 2 * number], "little") if number < roles else _SPARE
    fault = _describe_fault(level, role)
    if features & _REBUILDING_FLAG:
        fault = fault or "its rebuild is unfinished: let it finish, then try again"
    if features & _RESHAPING_FLAG:
        fault = fault or "its reshape is unfinished: let it finish, then try again"
    if not 0 < size <= data_size:
        fault = fault or "the data size in its RAID superblock is invalid"
    return MdMember(
        _format_uuid(identity), decode(name.partition(b"\0")[0]), version, _LEVELS.get(level, f"level {level}"),
        data_at * SECTOR_SIZE, size * SECTOR_SIZE, events, fault,
    )  # fmt: skip


def _has_valid_checksum(data: bytes, size: int) -> bool:
    """The sum of all words except the checksum itself, folded once."""
    if len(data) < size:
        return False
    stored = int.from_bytes(data[216:220], "little")
    whole = data[:216] + bytes(4) + data[220:size]
    total = sum(unpack_integers("<I", whole[: size & ~3])) + int.from_bytes(whole[size & ~3 :], "little")
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF == stored


def _describe_fault(level: int, role: int) -> str:
    if level != 1:
        kind = _LEVELS.get(level, f"RAID of level {level}")
        return f"it is part of a {kind}; only RAID1 can be read from its members: {probe.get_remedy(probe.MD)}"
    return _NO_DATA.get(role, "")


def _read_version_0(blocks: Blocks) -> MdMember | None:
    place = blocks.size // _RESERVED_SIZE * _RESERVED_SIZE - _RESERVED_SIZE
    data = blocks.read_at(place, 4096) if place >= 0 else b""
    if len(data) < 4096 or not data.startswith(_MAGIC):
        return None
    fields = _SUPERBLOCK_0.unpack_from(data)
    _magic, major, minor, _patch, _words, first, _ctime, level, size, _disks, _raid, _minor, _none, *others = fields
    if (major, minor) != (0, 90) or not _has_valid_old_checksum(data):
        return None
    state = struct.unpack_from("<5I", data, 3968)[4]
    low, high = struct.unpack_from("<II", data, 156)
    fault = _describe_fault(level, 0)
    if level == 1 and (state & 1 or not state & 4):
        fault = (
            "it is marked as a failed RAID disk" if state & 1 else "it is a RAID spare, or its rebuild is unfinished"
        )
    if size << 10 > place:
        return None
    identity = struct.pack(">4I", first, *others)
    return MdMember(
        _format_uuid(identity), "", "0.90", _LEVELS.get(level, f"level {level}"), 0, size << 10, high << 32 | low, fault
    )


def _has_valid_old_checksum(data: bytes) -> bool:
    """The sum of all words except the checksum itself, in 32 bits; the kernel folds once, older ones drop the carry."""
    stored = int.from_bytes(data[152:156], "little")
    total = sum(unpack_integers("<I", data)) - stored
    return stored in {(total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF, total & 0xFFFFFFFF}


def _format_uuid(identity: bytes) -> str:
    text = UUID(bytes=identity).hex
    return ":".join(text[at : at + 8] for at in range(0, 32, 8))
