"""Replay the journal of ext3 and ext4 in memory, as an overlay over the volume.

Linux fs/jbd2/recovery.c; Documentation/filesystems/ext4/journal.rst. A journal that cannot be replayed to its end is
refused: the result would be an older or inconsistent state of the file system.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.ext.superblock import REMEDY
from ltsp.storage.blocks import Blocks, LazyBlocks, read_exactly
from ltsp.storage.checksum import crc32c
from ltsp.storage.extents import DataRun, Extent, MappedBlocks, read_runs

_MAGIC = 0xC03B3998
_HEADER = struct.Struct(">III")
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_1, _SUPERBLOCK_2, _REVOKE = 1, 2, 3, 4, 5
_REVOKES, _BITS_64, _ASYNC, _CSUM_2, _CSUM_3, _FAST_COMMIT = 1, 2, 4, 8, 16, 32
_SUPPORTED_FEATURES = _REVOKES | _BITS_64 | _ASYNC | _CSUM_2 | _CSUM_3 | _FAST_COMMIT
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_TAIL_SIZE = 4
"""Bytes of the checksum at the end of a descriptor or revoke block."""
_COMMIT_CHECKSUM_OFFSET = 16
_FAST_HEAD_TAG = 9
_DEFAULT_FAST_BLOCKS = 256
"""Blocks for fast commits if the journal's superblock has no number."""


@dataclass(frozen=True, slots=True)
class _JournalOverlay:
    """Where the blocks of a volume are, some of them in its journal."""

    blocks: Blocks
    block_size: int
    moved: dict[int, tuple[int, bool]]
    """By block: the offset of its content in the volume, in bytes, and whether its first four bytes are an escaped
    journal magic number."""
    order: Sequence[int]
    """The moved blocks, sorted."""

    def locate(self, offset: int, size: int) -> Extent:
        block, within = divmod(offset, self.block_size)
        if block not in self.moved:
            index = bisect_left(self.order, block)
            if index < len(self.order):
                size = min(size, self.order[index] * self.block_size - offset)
            return Extent(size, self.blocks, offset)
        place, escaped = self.moved[block]
        size = min(size, self.block_size - within)
        if not escaped:
            return Extent(size, self.blocks, place + within)
        return Extent(size, LazyBlocks(self.block_size, partial(self._read_escaped, place)), within)

    def _read_escaped(self, place: int) -> bytes:
        return _MAGIC.to_bytes(4, "big") + self.blocks.read_at(place, self.block_size)[4:]


def replay_journal(blocks: Blocks, block_size: int, block_count: int, runs: Sequence[DataRun], size: int) -> Blocks:
    """The volume after replaying the journal, a file of `size` bytes in these runs.

    Raises FormatError if the journal is damaged, SourceError if it is of an unsupported kind.
    """
    journal = _Journal.open(blocks, block_size, runs, size)
    if journal is None:
        return blocks
    moved = journal.replay(block_count)
    return MappedBlocks(blocks.size, _JournalOverlay(blocks, block_size, moved, sorted(moved)).locate)


@dataclass(slots=True)
class _Journal:
    blocks: Blocks
    block_size: int
    runs: Sequence[DataRun]
    first: int
    """The first block of the log."""
    end: int
    """The block after the last one; the log wraps around there."""
    start: int
    sequence: int
    """Sequence number of the first transaction."""
    features: int
    fast_blocks: range
    seed: int
    block_offsets: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(cls, blocks: Blocks, block_size: int, runs: Sequence[DataRun], size: int) -> _Journal | None:
        """None if there is nothing to replay."""
        raw = read_runs(blocks, min(size, block_size), runs)
        if len(raw) < 1024:
            raise _damage_error("it is truncated")
        magic, kind, _ = _HEADER.unpack_from(raw)
        own_size, length, first, sequence, start = struct.unpack_from(">IIIII", raw, 12)
        if magic != _MAGIC or kind not in {_SUPERBLOCK_1, _SUPERBLOCK_2}:
            raise _damage_error("it has no superblock")
        if not start:
            return None
        features = int.from_bytes(raw[0x28:0x2C], "big") if kind == _SUPERBLOCK_2 else 0
        if features & ~_SUPPORTED_FEATURES:
            raise SourceError(
                f"the journal of the file system has unknown features: 0x{features & ~_SUPPORTED_FEATURES:x}", REMEDY
            )
        if features & _ASYNC and not features & (_CSUM_2 | _CSUM_3):
            raise SourceError(
                "the journal of the file system uses journal_async_commit, which is not supported", REMEDY
            )
        seed = 0
        if features & (_CSUM_2 | _CSUM_3):
            if crc32c(raw[:0xFC] + bytes(4) + raw[0x100:1024]) != int.from_bytes(raw[0xFC:0x100], "big"):
                raise _damage_error("wrong checksum of its superblock")
            seed = crc32c(raw[0x30:0x40])
        end = length
        if features & _FAST_COMMIT:
            end -= int.from_bytes(raw[0x54:0x58], "big") or _DEFAULT_FAST_BLOCKS
        if own_size != block_size or length * block_size > size or not 0 < first <= start < end:
            raise _damage_error(f"it has {length} blocks, but the log starts at {start}")
        fast_blocks = range(end + 1, length)
        return cls(blocks, block_size, runs, first, end, start, sequence, features, fast_blocks, seed)

    def replay(self, block_count: int) -> dict[int, tuple[int, bool]]:
        """The replaced blocks of the file system, as in `_JournalOverlay.moved`."""
        revoked: dict[int, int] = {}
        last = self.sequence
        for transaction, kind, _, data in self._read_log():
            if kind == _REVOKE:
                for block in self._parse_revoked(data):
                    revoked[block] = transaction
            elif kind == _COMMIT:
                last = transaction + 1
        self._check_fast_commits(last)
        moved: dict[int, tuple[int, bool]] = {}
        for transaction, kind, at, data in self._read_log():
            if kind != _DESCRIPTOR or transaction >= last:
                continue
            for number, (block, flags, checksum) in enumerate(self._parse_tags(data), start=1):
                if block in revoked and transaction <= revoked[block]:
                    continue
                if block >= block_count:
                    raise _damage_error(f"it refers to block {block}, but the file system has only {block_count}")
                place = self._locate_block(self._wrap(at + number))
                self._check_data_block(place, transaction, checksum)
                moved[block] = (place, bool(flags & _ESCAPED))
        return moved

    def _read_log(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Transaction, kind, number and content of each control block, to the end of the log."""
        at, sequence = self.start, self.sequence
        passed = 0
        while passed < self.end - self.first:
            data = self._read_block(at)
            magic, kind, number = _HEADER.unpack_from(data)
            if magic != _MAGIC or number != sequence & 0xFFFFFFFF:
                return
            if kind not in {_DESCRIPTOR, _COMMIT, _REVOKE}:
                return
            self._check_log_block(data, kind)
            yield sequence, kind, at, data
            size = 1
            if kind == _DESCRIPTOR:
                size += sum(1 for _ in self._parse_tags(data))
            elif kind == _COMMIT:
                sequence += 1
            at = self._wrap(at + size)
            passed += size

    def _parse_tags(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Block, flags and checksum of each block of a transaction."""
        wide = self.features & _BITS_64
        size = 16 if self.features & _CSUM_3 else 8 + (4 if wide else 0) + (2 if self.features & _CSUM_2 else 0)
        at, end = 12, self.block_size - (_TAIL_SIZE if self._has_checksums else 0)
        while at + size <= end:
            if self.features & _CSUM_3:
                low, flags, high, checksum = struct.unpack_from(">IIII", data, at)
            else:
                low, checksum, flags = struct.unpack_from(">IHH", data, at)
                high = int.from_bytes(data[at + 8 : at + 12], "big") if wide else 0
            yield low | (high << 32 if wide else 0), flags, checksum
            if flags & _LAST:
                return
            at += size if flags & _SAME_UUID else size + 16

    def _parse_revoked(self, data: bytes) -> Iterator[int]:
        used = int.from_bytes(data[12:16], "big")
        size = 8 if self.features & _BITS_64 else 4
        if used > self.block_size - (_TAIL_SIZE if self._has_checksums else 0):
            raise _damage_error(f"a revoke block claims {used} bytes")
        for at in range(16, used - size + 1, size):
            yield int.from_bytes(data[at : at + size], "big")

    @property
    def _has_checksums(self) -> int:
        return self.features & (_CSUM_2 | _CSUM_3)

    def _check_log_block(self, data: bytes, kind: int) -> None:
        if not self._has_checksums:
            return
        if kind == _COMMIT:
            at = _COMMIT_CHECKSUM_OFFSET
            blanked = data[:at] + bytes(4) + data[at + 4 :]
        else:
            at = self.block_size - _TAIL_SIZE
            blanked = data[:at] + bytes(4)
        if crc32c(blanked, self.seed) != int.from_bytes(data[at : at + 4], "big"):
            raise _damage_error("wrong checksum of a block")

    def _check_data_block(self, place: int, transaction: int, checksum: int) -> None:
        if not self._has_checksums:
            return
        seed = crc32c((transaction & 0xFFFFFFFF).to_bytes(4, "big"), self.seed)
        found = crc32c(self.blocks.read_at(place, self.block_size), seed)
        if checksum != (found if self.features & _CSUM_3 else found & 0xFFFF):
            raise _damage_error("wrong checksum of a data block")

    def _check_fast_commits(self, following: int) -> None:
        """Raises SourceError for fast commits, which record changes since the last transaction in another form."""
        if self.fast_blocks:
            data = self._read_block(self.fast_blocks.start)
            tag, _, _, transaction = struct.unpack_from("<HHII", data)
            if tag == _FAST_HEAD_TAG and transaction == following & 0xFFFFFFFF:
                raise SourceError(
                    "the journal of the file system contains fast commits, which are not supported", REMEDY
                )

    def _wrap(self, at: int) -> int:
        return at if at < self.end else at - (self.end - self.first)

    def _read_block(self, number: int) -> bytes:
        return read_exactly(self.blocks, self._locate_block(number), self.block_size, "a journal block")

    def _locate_block(self, number: int) -> int:
        """The offset of a journal block in the volume, in bytes."""
        if not self.block_offsets:
            for start, place, length in self.runs:
                for passed in range(0, length, self.block_size):
                    self.block_offsets[(start + passed) // self.block_size] = place + passed
        place = self.block_offsets.get(number, -1)
        if place < 0:
            raise _damage_error(f"its block {number} is not mapped")
        return place


def _damage_error(fault: str) -> FormatError:
    return FormatError(f"the journal of the file system is damaged: {fault}", REMEDY)
