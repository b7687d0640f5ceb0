"""Parse the superblock of xfs, versions 4 and 5. Linux fs/xfs/libxfs/xfs_format.h

All numbers in xfs are big-endian, except checksums.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ltsp.errors import FormatError, SourceError
from ltsp.storage import checksum
from ltsp.tree.name import decode

MAGIC = b"XFSB"
SIZE = 512
REMEDY = "run xfs_repair on it, or on a copy"

_DIRECTORIES_2 = 0x2000
_HAS_FEATURES2 = 0x8000
_FEATURES2_TYPED = 0x200
_TYPED, _SPARSE, _META_UUID, _BIGTIME, _NEEDS_REPAIR, _LARGE_COUNTS, _EXCHANGE, _PARENT = (1 << bit for bit in range(8))
_SUPPORTED = _TYPED | _SPARSE | _META_UUID | _BIGTIME | _NEEDS_REPAIR | _LARGE_COUNTS | _EXCHANGE | _PARENT
_CHECKSUM_OFFSET = 224


@dataclass(frozen=True, slots=True)
class XfsSuperblock:
    version: int
    block_size: int
    """Bytes."""
    block_count: int
    group_blocks: int
    """Blocks in an allocation group."""
    group_log: int
    """Bits of a block's number in its group."""
    group_count: int
    inode_size: int
    inodes_log: int
    """Bits of an inode's number in its block."""
    directory_block_size: int
    """Bytes of a block of a directory."""
    root: int
    log_start: int
    """The log's first block as an xfs block number; 0 if it is on another device."""
    log_blocks: int
    has_file_types: bool
    """Whether directory entries record file types."""
    uuid: str
    label: str

    @classmethod
    def parse(cls, raw: bytes, sector: bytes) -> XfsSuperblock:
        """`sector` is the superblock's whole sector, which the checksum covers.

        Raises FormatError if it is damaged, SourceError if it has unknown features.
        """
        if len(raw) < SIZE or raw[:4] != MAGIC:
            raise FormatError("not an xfs file system")

        def number(at: int, size: int = 4) -> int:
            return int.from_bytes(raw[at : at + size], "big")

        version_bits = number(100, 2)
        version = version_bits & 0xF
        if version not in {4, 5} or not version_bits & _DIRECTORIES_2:
            raise SourceError(f"xfs version {version} is not supported; 4 and 5 are")
        features2 = number(200) if version_bits & _HAS_FEATURES2 else 0
        features = number(216) if version == 5 else 0
        if unknown := features & ~_SUPPORTED:
            raise SourceError(f"the xfs file system has unknown features: 0x{unknown:x}")
        if features & _NEEDS_REPAIR:
            raise SourceError("the xfs file system is marked as damaged", REMEDY)
        if version == 5 and not checksum.matches_xfs(sector, _CHECKSUM_OFFSET):
            raise FormatError("the superblock of the xfs file system is damaged: wrong checksum", REMEDY)
        found = cls(
            version=version,
            block_size=number(4),
            block_count=number(8, 8),
            group_blocks=number(84),
            group_log=raw[124],
            group_count=number(88),
            inode_size=number(104, 2),
            inodes_log=raw[123],
            directory_block_size=number(4) << min(raw[192], 16),
            root=number(56, 8),
            log_start=number(48, 8),
            log_blocks=number(96),
            has_file_types=bool(features & _TYPED or features2 & _FEATURES2_TYPED),
            uuid=str(UUID(bytes=raw[32:48])),
            label=decode(raw[108:120].split(b"\0", 1)[0]),
        )
        found._check()
        return found

    def _check(self) -> None:
        is_valid = (
            512 <= self.block_size <= 65536
            and not self.block_size & (self.block_size - 1)
            and 256 <= self.inode_size <= min(2048, self.block_size)
            and not self.inode_size & (self.inode_size - 1)
            and self.inode_size << self.inodes_log == self.block_size
            and self.directory_block_size <= 65536
            and 0 < self.group_blocks <= 1 << self.group_log <= 1 << 32
            and self.group_blocks * (self.group_count - 1) < self.block_count <= self.group_blocks * self.group_count
        )
        if not is_valid:
            raise FormatError("the superblock of the xfs file system is damaged: invalid numbers", REMEDY)

    def locate_blocks(self, block: int, count: int = 1) -> int:
        """The offset in bytes of blocks of one group.

        Raises FormatError if they are outside of the file system.
        """
        group, inside = block >> self.group_log, block & ((1 << self.group_log) - 1)
        first = group * self.group_blocks + inside
        if group >= self.group_count or inside + count > self.group_blocks or first + count > self.block_count:
            raise FormatError(f"block {block} is outside of the file system")
        return first * self.block_size

    def locate_inode(self, number: int) -> int:
        """The offset of an inode in bytes. Raises FormatError if its number is invalid."""
        index = number & ((1 << self.inodes_log) - 1)
        return self.locate_blocks(number >> self.inodes_log) + index * self.inode_size
