"""Parse the boot sector of FAT, which locates everything else. Linux fs/fat/inode.c, fat_read_bpb"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ltsp.errors import FormatError

_PARAMETERS = struct.Struct("<HBHBHHBH8xI")
_MOST_FAT12 = 4084
_UNNAMED = frozenset({"", "NO NAME"})


@dataclass(frozen=True, slots=True)
class BootSector:
    """All offsets and sizes are in bytes of the volume."""

    bits: int
    """Bits of a table entry: 12, 16 or 32."""
    cluster_size: int
    clusters: int
    table: int
    root_place: int
    root_size: int
    """Size of the root directory, if it is outside of the clusters."""
    root_cluster: int
    """First cluster of the root directory, if it is in clusters; else 0."""
    data: int
    """Offset of the first cluster, which has the number 2."""
    label: str
    uuid: str

    @property
    def last(self) -> int:
        """Table entries from this number on end a chain."""
        return {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.bits]

    @classmethod
    def parse(cls, raw: bytes, volume: int) -> BootSector:
        """Raises FormatError if it is not a boot sector, or does not fit a volume of `volume` bytes."""
        if len(raw) < 512 or raw[510:512] != b"\x55\xaa" or raw[0] not in {0xEB, 0xE9}:
            raise FormatError("not a vfat file system")
        sector, per_cluster, reserved, tables, entries, total, media, length, large = _PARAMETERS.unpack_from(raw, 11)
        total = total or large
        wide = not length
        if wide:
            (length,) = struct.unpack_from("<I", raw, 36)
        sound = (
            sector in {512, 1024, 2048, 4096}
            and per_cluster
            and not per_cluster & (per_cluster - 1)
            and reserved
            and 1 <= tables <= 4
            and length
            and (media >= 0xF8 or media == 0xF0)
        )
        if not sound:
            raise FormatError("not a vfat file system")
        root = reserved + tables * length
        root_sectors = -(-entries * 32 // sector)
        data = root + root_sectors
        clusters = (total - data) // per_cluster if total > data else 0
        bits = 32 if wide else 12 if clusters <= _MOST_FAT12 else 16
        clusters = min(clusters, length * sector * 8 // bits - 2)
        if clusters < 1:
            raise FormatError("the boot sector of the vfat file system is damaged")
        if total * sector > volume:
            raise FormatError(
                f"the vfat file system has {total * sector} bytes, but the volume only {volume}",
                "copy it again: it is truncated",
            )
        extended = 66 if wide else 38
        named = raw[extended] in {0x28, 0x29}
        serial = raw[extended + 1 : extended + 5][::-1].hex().upper() if named else ""
        label = raw[extended + 5 : extended + 16].decode("cp437").rstrip() if raw[extended] == 0x29 else ""
        return cls(
            bits=bits,
            cluster_size=per_cluster * sector,
            clusters=clusters,
            table=reserved * sector,
            root_place=root * sector,
            root_size=entries * 32,
            root_cluster=int.from_bytes(raw[44:48], "little") if wide else 0,
            data=data * sector,
            label="" if label in _UNNAMED else label,
            uuid=f"{serial[:4]}-{serial[4:]}" if serial else "",
        )
