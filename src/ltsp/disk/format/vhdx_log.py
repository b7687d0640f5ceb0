"""Replay the log of a VHDX that was not closed cleanly: its sectors are overlaid on the file's in memory.

Layout and rules: [MS-VHDX] 2.3. The active sequence is the valid one with the highest number; without one there is
nothing to replay.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, MemoryBlocks, read_exactly
from ltsp.storage.checksum import crc32c_inverted
from ltsp.storage.extents import Extent, MappedBlocks

_SECTOR_SIZE: Final = 4096
_MAX_LOG_SIZE: Final = 8 << 20
"""Bytes; writers create a log of 1 MiB."""
_MAX_CHECKED_SIZE: Final = 24 << 20
"""Bytes of entries to verify, which takes two seconds: forged entries could each be as long as the log."""
_MAX_ZEROED_SIZE: Final = 1 << 20
"""Total bytes of the ranges to zero."""
_ENTRY: Final = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR: Final = struct.Struct("<4s4sQQQ")


@dataclass(slots=True)
class _LogEntry:
    size: int
    tail: int
    sequence: int
    min_file_size: int
    """Size of the file in bytes when the entry was written."""
    sectors: dict[int, bytes] = field(default_factory=dict)
    """By offset in the file."""
    zeros: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size."""


def replay_log(file: Blocks, identity: UUID, place: int, size: int) -> Blocks:
    """The file with its log replayed.

    Raises FormatError.
    """
    if size % _SECTOR_SIZE or size > _MAX_LOG_SIZE:
        raise FormatError(f"its log size of {size} bytes is invalid")
    log = read_exactly(file, place, size, "the log")
    entries = _find_active_sequence(log, identity)
    if not entries:
        return file
    if entries[-1].min_file_size > file.size:
        raise FormatError("it is truncated: its log was written for a longer file")
    changed: dict[int, bytes | None] = {}
    for entry in entries:
        for start, length in entry.zeros:
            if length > file.size or start > file.size or len(changed) + length // _SECTOR_SIZE > _MAX_ZEROED_SIZE:
                raise FormatError("its log zeroes more than the size of the file")
            changed.update(dict.fromkeys(range(start, start + length, _SECTOR_SIZE)))
        changed.update(entry.sectors)
    return MappedBlocks(file.size, _LogOverlay(file, changed).locate)


@dataclass(frozen=True, slots=True)
class _LogOverlay:
    file: Blocks
    changed: dict[int, bytes | None]

    def locate(self, offset: int, size: int) -> Extent:
        within = offset % _SECTOR_SIZE
        at = offset - within
        length = min(size, _SECTOR_SIZE - within)
        if at in self.changed:
            data = self.changed[at]
            return Extent(length) if data is None else Extent(length, MemoryBlocks(data), within)
        while length < size and at + within + length not in self.changed:
            length = min(size, length + _SECTOR_SIZE)
        return Extent(length, self.file, offset)


def _find_active_sequence(log: bytes, identity: UUID) -> list[_LogEntry]:
    """The entries of the active sequence, from tail to head."""
    heads: dict[int, _LogEntry] = {}
    checked_size = 0
    for at in range(0, len(log), _SECTOR_SIZE):
        if not log.startswith(b"loge", at):
            continue
        checked_size += min(_ENTRY.unpack_from(log, at)[2], len(log))
        if checked_size > _MAX_CHECKED_SIZE:
            raise FormatError("its log entries overlap")
        entry = _parse_entry(log, at, identity)
        if entry:
            heads[at] = entry
    for head in sorted(heads, key=lambda at: heads[at].sequence, reverse=True):
        sequence = _follow_sequence(heads, head, len(log))
        if sequence:
            return sequence
    return []


def _follow_sequence(heads: dict[int, _LogEntry], head: int, size: int) -> list[_LogEntry]:
    """The entries from the head's tail to the head, with consecutive numbers; empty if the sequence is broken."""
    at = heads[head].tail
    found: list[_LogEntry] = []
    while at in heads and len(found) <= len(heads):
        entry = heads[at]
        if found and entry.sequence != found[-1].sequence + 1:
            return []
        found.append(entry)
        if at == head:
            return found
        at = (at + entry.size) % size
    return []


def _parse_entry(log: bytes, at: int, identity: UUID) -> _LogEntry | None:
    """The entry at an offset, which may wrap around the end of the log; None if it is invalid."""
    _magic, total, size, tail, sequence, count, _reserved, name, min_file_size, _last = _ENTRY.unpack_from(log, at)
    if UUID(bytes_le=name) != identity or not size or size % _SECTOR_SIZE or size > len(log):
        return None
    data = log[at : at + size]
    data += log[: size - len(data)]
    descriptors = -(-(64 + count * _DESCRIPTOR.size) // _SECTOR_SIZE) * _SECTOR_SIZE
    if descriptors > size or tail % _SECTOR_SIZE or crc32c_inverted(data[:4] + bytes(4) + data[8:]) != total:
        return None
    entry = _LogEntry(size, tail, sequence, min_file_size)
    data_at = descriptors
    for index in range(count):
        kind, trailing, middle, place, number = _DESCRIPTOR.unpack_from(data, 64 + index * _DESCRIPTOR.size)
        if number != sequence or place % _SECTOR_SIZE:
            return None
        if kind == b"zero":
            entry.zeros.append((place, middle))
        elif kind == b"desc":
            sector = _parse_data_sector(data, data_at, sequence)
            if sector is None:
                return None
            entry.sectors[place] = middle.to_bytes(8, "little") + sector + trailing
            data_at += _SECTOR_SIZE
        else:
            return None
    return entry


def _parse_data_sector(data: bytes, at: int, sequence: int) -> bytes | None:
    """The content of a data sector, except its first 8 and last 4 bytes, which are in the descriptor."""
    if at + _SECTOR_SIZE > len(data) or data[at : at + 4] != b"data":
        return None
    high, low = data[at + 4 : at + 8], data[at + _SECTOR_SIZE - 4 : at + _SECTOR_SIZE]
    if int.from_bytes(low + high, "little") != sequence:
        return None
    return data[at + 8 : at + _SECTOR_SIZE - 4]
