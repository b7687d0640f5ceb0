"""Map the blocks of a file: extents, or the older direct and indirect blocks.

Linux fs/ext4/extents.c, indirect.c; Documentation/filesystems/ext4/ifork.rst
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun, add_run

_HEADER = struct.Struct("<HHHHI")
_EXTENT = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIHH")
_MAGIC = 0xF30A
_MAX_DEPTH = 5
_MAX_EXTENT_BLOCKS = 32768
"""Blocks of an extent; a larger number marks an unwritten extent, which reads as a hole."""
_DIRECT_POINTERS = 12


@dataclass(frozen=True, slots=True)
class ExtBlockMap:
    blocks: Blocks
    block_size: int
    """Bytes."""
    first_block: int
    end_block: int
    """First and last block of the file system that may hold data."""

    def read_extents(self, root: bytes, seed: int | None = None) -> list[DataRun]:
        """The runs of an extent tree; `root` is the node in the inode.

        `seed` is that of the node checksums; None without checksums. Raises FormatError. Each leaf must follow the
        previous one, so that a looping tree ends.
        """
        runs: list[DataRun] = []
        following = total = 0
        pending: list[tuple[int, int]] = [(0, -1)]
        while pending:
            block, depth = pending.pop()
            node = self._read_node(block) if depth >= 0 else root
            magic, count, _, height, _ = _HEADER.unpack_from(node)
            if magic != _MAGIC or height > _MAX_DEPTH or (depth >= 0 and height != depth):
                raise FormatError("its extent tree is damaged")
            if _HEADER.size + 12 * count > len(node) or (not count and depth >= 0):
                raise FormatError(f"its extent tree is damaged: a node claims {count} entries")
            if depth >= 0 and seed is not None:
                _check_tail(node, seed)
            if height:
                children = list(_INDEX.iter_unpack(node[12 : 12 + 12 * count]))
                pending.extend((low | high << 32, height - 1) for _, low, high, _ in reversed(children))
                continue
            for logical, length, high, low in _EXTENT.iter_unpack(node[12 : 12 + 12 * count]):
                if logical < following or not length:
                    raise FormatError("its extents are damaged: they overlap")
                written = length <= _MAX_EXTENT_BLOCKS
                blocks = length if written else length - _MAX_EXTENT_BLOCKS
                following = logical + blocks
                total += blocks
                place = low | high << 32
                self._check_blocks(place, blocks)
                if written:
                    add_run(runs, logical * self.block_size, place * self.block_size, blocks * self.block_size)
        if total > self.end_block:
            raise FormatError("its extents are damaged: too many blocks")
        return runs

    def read_pointers(self, words: bytes, size: int) -> list[DataRun]:
        """The runs of a block map, up to `size` bytes.

        Raises FormatError.
        """
        runs: list[DataRun] = []
        wanted = -(-size // self.block_size)
        direct = array("I", words)
        if sys.byteorder == "big":
            direct.byteswap()
        budget = _Budget(2 * self.end_block)
        self._add_blocks(runs, 0, direct[:_DIRECT_POINTERS], wanted, budget)
        logical = _DIRECT_POINTERS
        per_block = self.block_size // 4
        for depth, pointer in enumerate(direct[_DIRECT_POINTERS:], start=1):
            if logical < wanted:
                self._descend(runs, pointer, depth, logical, wanted, budget)
            logical += per_block**depth
        return runs

    def _descend(
        self, runs: list[DataRun], pointer: int, depth: int, logical: int, wanted: int, budget: _Budget
    ) -> None:
        """The blocks below an indirect block, which has at most three levels."""
        if not pointer or logical >= wanted:
            return
        budget.take(1)
        words = array("I", self._read_node(pointer))
        if sys.byteorder == "big":
            words.byteswap()
        if depth == 1:
            self._add_blocks(runs, logical, words, wanted, budget)
            return
        span = len(words) ** (depth - 1)
        for number, below in enumerate(words):
            if below:
                self._descend(runs, below, depth - 1, logical + number * span, wanted, budget)

    def _add_blocks(self, runs: list[DataRun], logical: int, words: array[int], wanted: int, budget: _Budget) -> None:
        size = self.block_size
        for number, place in enumerate(words[: max(0, wanted - logical)], start=logical):
            if place:
                budget.take(1)
                self._check_blocks(place, 1)
                add_run(runs, number * size, place * size, size)

    def _read_node(self, block: int) -> bytes:
        self._check_blocks(block, 1)
        return read_exactly(self.blocks, block * self.block_size, self.block_size, "a block map")

    def _check_blocks(self, block: int, count: int) -> None:
        if block <= self.first_block or block + count > self.end_block:
            raise FormatError(
                f"its block map is damaged: block {block} is outside of the file system ({self.end_block} blocks)"
            )


def _check_tail(node: bytes, seed: int) -> None:
    """Verify the checksum after the space for all entries. Linux ext4_extent_block_csum"""
    (capacity,) = struct.unpack_from("<H", node, 4)
    at = _HEADER.size + capacity * _EXTENT.size
    if not checksum.matches_ext4(node[:at], int.from_bytes(node[at : at + 4], "little"), seed):
        raise FormatError("its extent tree is damaged: wrong checksum")


@dataclass(slots=True)
class _Budget:
    """Blocks that a map may still name: no block occurs twice in a file."""

    blocks_left: int

    def take(self, blocks: int) -> None:
        self.blocks_left -= blocks
        if self.blocks_left < 0:
            raise FormatError("its block map is damaged: too many blocks")
