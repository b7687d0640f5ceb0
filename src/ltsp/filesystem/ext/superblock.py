"""Parse the superblock and the group descriptors of ext2, ext3 and ext4. Linux fs/ext4/ext4.h"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from uuid import UUID

from ltsp.errors import FormatError, SourceError
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.checksum import crc32c
from ltsp.tree.name import decode

OFFSET = 1024
SIZE = 1024
MAGIC = b"\x53\xef"
MAGIC_OFFSET = 0x38
REMEDY = "run e2fsck -fy on it, or on a copy"


class Compatible(IntFlag):
    HAS_JOURNAL = 0x4
    SPARSE_SUPER2 = 0x200


class Incompatible(IntFlag):
    """Features that a reader must support."""

    COMPRESSION = 0x1
    FILETYPE = 0x2
    RECOVER = 0x4
    JOURNAL_DEV = 0x8
    META_BG = 0x10
    EXTENTS = 0x40
    BITS_64 = 0x80
    MMP = 0x100
    FLEX_BG = 0x200
    EA_INODE = 0x400
    DIRDATA = 0x1000
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


class ReadOnlyCompatible(IntFlag):
    SPARSE_SUPER = 0x1
    HUGE_FILE = 0x8
    GDT_CSUM = 0x10
    METADATA_CSUM = 0x400


_SUPPORTED = sum(Incompatible) & ~int(Incompatible.COMPRESSION | Incompatible.JOURNAL_DEV | Incompatible.DIRDATA)
_EXT4 = (
    Incompatible.EXTENTS
    | Incompatible.BITS_64
    | Incompatible.MMP
    | Incompatible.FLEX_BG
    | Incompatible.EA_INODE
    | Incompatible.CSUM_SEED
    | Incompatible.LARGEDIR
    | Incompatible.INLINE_DATA
    | Incompatible.ENCRYPT
    | Incompatible.CASEFOLD
)
_EXT4_READ_ONLY = 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400
"""huge_file, uninit_bg, dir_nlink, extra_isize, quota, bigalloc, metadata_csum: not in ext3."""

_CHECKSUM_OFFSET = 0x3FC
_GROUP_CHECKSUM_OFFSET = 0x1E


@dataclass(frozen=True, slots=True)
class ExtSuperblock:
    block_size: int
    """Bytes."""
    block_count: int
    inode_count: int
    inode_size: int
    inodes_per_group: int
    blocks_per_group: int
    first_data_block: int
    first_meta_group: int
    descriptor_size: int
    first_inode: int
    """The first inode that is not reserved."""
    compatible_features: int
    incompatible_features: int
    read_only_features: int
    journal_inode: int
    backup_groups: tuple[int, int]
    seed: int | None
    """Seed of the metadata checksums; None without checksums."""
    value_seed: int
    """Seed of the checksums of attribute values in their own inodes, which exist without metadata checksums, too."""
    uuid_bytes: bytes
    """The stored UUID."""
    label: str

    @classmethod
    def parse(cls, raw: bytes) -> ExtSuperblock:
        """Raises FormatError if it is damaged, SourceError if it has unknown features."""
        if len(raw) < SIZE or raw[MAGIC_OFFSET : MAGIC_OFFSET + 2] != MAGIC:
            raise FormatError("not an ext2, ext3 or ext4 file system")

        def read_u32(at: int) -> int:
            return int.from_bytes(raw[at : at + 4], "little")

        def read_u16(at: int) -> int:
            return int.from_bytes(raw[at : at + 2], "little")

        compatible_features, incompatible_features, read_only_features = struct.unpack_from("<III", raw, 0x5C)
        revised = read_u32(0x4C) > 0
        if not revised:
            compatible_features = incompatible_features = read_only_features = 0
        if unknown := incompatible_features & ~_SUPPORTED:
            raise SourceError(f"the ext4 file system has unknown features: {_format_features(unknown)}")
        if read_only_features & ReadOnlyCompatible.METADATA_CSUM and not checksum.matches_ext4(
            raw[:_CHECKSUM_OFFSET], read_u32(_CHECKSUM_OFFSET)
        ):
            raise FormatError("the superblock of the ext4 file system is damaged: wrong checksum", REMEDY)
        seed = read_u32(0x270) if incompatible_features & Incompatible.CSUM_SEED else crc32c(raw[0x68:0x78])
        wide = incompatible_features & Incompatible.BITS_64
        found = cls(
            block_size=1024 << min(read_u32(0x18), 32),
            block_count=read_u32(0x4) | (read_u32(0x150) << 32 if wide else 0),
            inode_count=read_u32(0x0),
            inode_size=read_u16(0x58) if revised else 128,
            inodes_per_group=read_u32(0x28),
            blocks_per_group=read_u32(0x20),
            first_data_block=read_u32(0x14),
            first_meta_group=read_u32(0x104) if incompatible_features & Incompatible.META_BG else 1 << 32,
            descriptor_size=read_u16(0xFE) if wide else 32,
            first_inode=read_u32(0x54) if revised else 11,
            compatible_features=compatible_features,
            incompatible_features=incompatible_features,
            read_only_features=read_only_features,
            journal_inode=read_u32(0xE0),
            backup_groups=(read_u32(0x24C), read_u32(0x250)),
            seed=seed if read_only_features & ReadOnlyCompatible.METADATA_CSUM else None,
            value_seed=seed,
            uuid_bytes=raw[0x68:0x78],
            label=decode(raw[0x78:0x88].split(b"\0", 1)[0]),
        )
        found._check()
        return found

    def _check(self) -> None:
        """The checks of the kernel before a mount. Linux ext4_fill_super"""
        is_valid = (
            self.block_size <= 65536
            and 128 <= self.inode_size <= self.block_size
            and not self.inode_size & (self.inode_size - 1)
            and 0 < self.inodes_per_group <= 8 * self.block_size
            and 8 <= self.blocks_per_group <= 1 << 32
            and 32 <= self.descriptor_size <= 1024
            and not self.descriptor_size & (self.descriptor_size - 1)
            and self.first_data_block < self.block_count
            and self.first_data_block <= 1
            and 0 < self.inode_count <= self.inodes_per_group * self.group_count
        )
        if not is_valid:
            raise FormatError("the superblock of the ext4 file system is damaged: invalid numbers", REMEDY)

    @property
    def uuid(self) -> str:
        return str(UUID(bytes=self.uuid_bytes)) if any(self.uuid_bytes) else ""

    @property
    def group_count(self) -> int:
        return -(-(self.block_count - self.first_data_block) // self.blocks_per_group)

    @property
    def kind(self) -> str:
        """Its type, by the rules of blkid(8)."""
        if self.incompatible_features & _EXT4 or self.read_only_features & _EXT4_READ_ONLY:
            return "ext4"
        return "ext3" if self.compatible_features & Compatible.HAS_JOURNAL else "ext2"

    def has_feature(self, feature: Incompatible) -> bool:
        return bool(self.incompatible_features & feature)

    def read_inode_tables(self, blocks: Blocks, *, replayed: bool = True) -> list[int]:
        """The first block of each group's inodes.

        `replayed` is false if the journal may have newer descriptors, so checksums need not match yet.
        Raises FormatError.
        """
        per_block = self.block_size // self.descriptor_size
        groups = self.group_count
        # The inode count, which is checked, limits the groups, and the volume holds a descriptor of each.
        if groups * self.descriptor_size > blocks.size:
            raise FormatError(f"the ext4 file system claims {groups} block groups, more than fit in the volume", REMEDY)
        tables: list[int] = []
        for number in range(-(-groups // per_block)):
            place = self._locate_descriptors(number) * self.block_size
            data = read_exactly(blocks, place, self.block_size, "the group descriptors")
            for at in range(0, per_block * self.descriptor_size, self.descriptor_size):
                if replayed and len(tables) < groups:
                    self._check_descriptor(data[at : at + self.descriptor_size], len(tables))
                table = int.from_bytes(data[at + 8 : at + 12], "little")
                if self.descriptor_size >= 64:
                    table |= int.from_bytes(data[at + 0x28 : at + 0x2C], "little") << 32
                tables.append(table)
        return tables[:groups]

    def _check_descriptor(self, raw: bytes, group: int) -> None:
        """Linux ext4_group_desc_csum"""
        number = group.to_bytes(4, "little")
        before, after = raw[:_GROUP_CHECKSUM_OFFSET], raw[_GROUP_CHECKSUM_OFFSET + 2 :]
        if self.seed is not None:
            found = crc32c(number + before + bytes(2) + after, self.seed) & 0xFFFF
        elif self.read_only_features & ReadOnlyCompatible.GDT_CSUM:
            found = _crc16(self.uuid_bytes + number + before + after)
        else:
            return
        if found != int.from_bytes(raw[_GROUP_CHECKSUM_OFFSET : _GROUP_CHECKSUM_OFFSET + 2], "little"):
            raise FormatError(f"the {self.kind} file system is damaged: wrong checksum of block group {group}", REMEDY)

    def _locate_descriptors(self, number: int) -> int:
        """The block of a part of the group descriptors. Linux descriptor_loc"""
        superblock = 1 if self.block_size == 1024 else 0
        if number < self.first_meta_group:
            return superblock + number + 1
        group = number * (self.block_size // self.descriptor_size)
        before = int(self._has_superblock_copy(group))
        if self.block_size == 1024 and not number and not self.first_data_block:
            before += 1
        return self.first_data_block + group * self.blocks_per_group + before

    def _has_superblock_copy(self, group: int) -> bool:
        if not group:
            return True
        if self.compatible_features & Compatible.SPARSE_SUPER2:
            return group in self.backup_groups
        if group == 1 or not self.read_only_features & ReadOnlyCompatible.SPARSE_SUPER:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))


def _crc16(data: bytes) -> int:
    """CRC-16 with the polynomial 0x8005, reflected. Linux lib/crc16.c"""
    found = 0xFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0xA001 if found & 1 else 0)
    return found


def _is_power(number: int, base: int) -> bool:
    while number > 1 and not number % base:
        number //= base
    return number == 1


def _format_features(features: int) -> str:
    names = []
    for bit in range(32):
        if features >> bit & 1:
            try:
                names.append((Incompatible(1 << bit).name or "").lower() or f"0x{1 << bit:x}")
            except ValueError:
                names.append(f"0x{1 << bit:x}")
    return ", ".join(names)
