"""Check whether the log of xfs has unwritten changes. Linux fs/xfs/xfs_log_recover.c

It has unless its last record is an unmount record; the last record is found where the cycle numbers step down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ltsp.errors import SourceError
from ltsp.filesystem.xfs.superblock import XfsSuperblock
from ltsp.storage.blocks import Blocks, read_exactly

_BLOCK_SIZE = 512
"""Bytes: the unit of a log, regardless of the block size of the file system."""
_MAGIC = 0xFEEDBABE
_HEADER_DATA_SIZE = 32 << 10
"""Bytes of data described by one block of a record header."""
_UNMOUNT = 0x20
_MAX_RECORD_BLOCKS = 2 * (256 << 10) // _BLOCK_SIZE + 16
"""Blocks: twice the largest record with its header."""


def check_clean(blocks: Blocks, superblock: XfsSuperblock) -> None:
    """Raises SourceError if the log has to be replayed or is elsewhere, FormatError if it is damaged."""
    if not superblock.log_start:
        raise SourceError(
            "cannot check whether the xfs file system was unmounted: its log is on another device",
            "mount it with its log, and run ltsp image on the mount point",
        )
    start = superblock.locate_blocks(superblock.log_start, superblock.log_blocks)
    log = _XfsLog(blocks, start, superblock.log_blocks * superblock.block_size // _BLOCK_SIZE)
    if not log.is_clean():
        raise SourceError(
            "the xfs file system was not cleanly unmounted: its log has changes that have not been replayed",
            "shut down its machine, or mount and unmount it (or a copy) once",
        )


@dataclass(frozen=True, slots=True)
class _XfsLog:
    blocks: Blocks
    start: int
    size: int
    """Blocks of the log."""

    def is_clean(self) -> bool:
        head = self._find_head()
        for back in range(1, min(self.size, _MAX_RECORD_BLOCKS)):
            at = (head - back) % self.size
            header = self._read(at)
            if int.from_bytes(header[:4], "big") == _MAGIC:
                return self._is_unmount(at, header, head)
        return False

    def _is_unmount(self, at: int, header: bytes, head: int) -> bool:
        version, length = int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")
        operations, record_size = int.from_bytes(header[40:44], "big"), int.from_bytes(header[320:324], "big")
        blocks = -(-record_size // _HEADER_DATA_SIZE) if version & 2 and record_size > _HEADER_DATA_SIZE else 1
        if operations != 1 or (at + blocks - head + -(-length // _BLOCK_SIZE)) % self.size:
            return False
        return bool(self._read((at + blocks) % self.size)[9] & _UNMOUNT)

    def _find_head(self) -> int:
        """The block where the next record would be written."""
        first, last = self._read_cycle(0), self._read_cycle(self.size - 1)
        if first == last:
            return 0
        # From some block on, all blocks are of the previous cycle, or were never written.
        return self._find_first_cycle(lambda cycle: cycle != first)

    def _find_first_cycle(self, wanted: Callable[[int], bool]) -> int:
        low, high = 0, self.size - 1
        while high - low > 1:
            middle = (low + high) // 2
            if wanted(self._read_cycle(middle)):
                high = middle
            else:
                low = middle
        return high

    def _read_cycle(self, block: int) -> int:
        data = self._read(block)
        first = int.from_bytes(data[:4], "big")
        return int.from_bytes(data[4:8], "big") if first == _MAGIC else first

    def _read(self, block: int) -> bytes:
        return read_exactly(self.blocks, self.start + block * _BLOCK_SIZE, _BLOCK_SIZE, "the log")
