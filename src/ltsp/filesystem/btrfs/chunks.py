"""Map btrfs logical addresses to offsets in the volume by the chunks. struct btrfs_chunk"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError

_CHUNK = struct.Struct("<QQQQIIIHH")
_STRIPE = struct.Struct("<QQ16s")
_KEY = struct.Struct("<QBQ")
_CHUNK_ITEM = 228
_PROFILES = {3: "raid0", 4: "raid1", 6: "raid10", 7: "raid5", 8: "raid6", 9: "raid1c3", 10: "raid1c4"}
"""By bit of the type; single has no bit, and dup (5) has two copies on one device."""
_DUPLICATE = 1 << 5
_MOST = 1 << 20
"""Chunks: enough for 256 TiB."""


def _parse_chunk(item: bytes) -> tuple[int, ...]:
    return _CHUNK.unpack_from(item)


@dataclass(frozen=True, slots=True)
class _Chunk:
    start: int
    length: int
    copies: tuple[int, ...]
    """Offset of each copy in the volume."""


@dataclass(slots=True)
class ChunkMap:
    device: int
    size: int
    """Size of the volume in bytes."""
    _starts: list[int] = field(default_factory=list)
    _chunks: list[_Chunk] = field(default_factory=list)

    def add_system_chunks(self, packed: bytes) -> None:
        """Add the chunks of the superblock."""
        at = 0
        while at < len(packed):
            _, kind, start = _KEY.unpack_from(packed, at)
            at += _KEY.size
            if kind != _CHUNK_ITEM:
                raise FormatError("the chunks of the superblock are damaged")
            stripes = self.add(start, packed[at:])
            at += _CHUNK.size + stripes * _STRIPE.size

    def add(self, start: int, item: bytes) -> int:
        """Add a chunk at an address; return the number of its stripes.

        Raises SourceError if it needs other devices.
        """
        length, _, _, kind, _, _, _, count, _ = _parse_chunk(item)
        for bit, name in _PROFILES.items():
            if kind >> bit & 1:
                raise SourceError(
                    f"the btrfs profile {name} is not supported",
                    "mount it, and pass the mount point",
                )
        if count != (2 if kind & _DUPLICATE else 1) or not length:
            raise FormatError(f"the chunk at {start} is damaged: {count} stripes")
        copies = []
        for number in range(count):
            device, place, _ = _STRIPE.unpack_from(item, _CHUNK.size + number * _STRIPE.size)
            if device != self.device or place + length > self.size:
                raise FormatError(f"the chunk at {start} is damaged: it is outside of the volume")
            copies.append(place)
        index = bisect_right(self._starts, start)
        if index and self._starts[index - 1] == start:
            return count
        if len(self._starts) >= _MOST:
            raise FormatError("the btrfs file system has too many chunks")
        self._starts.insert(index, start)
        self._chunks.insert(index, _Chunk(start, length, tuple(copies)))
        return count

    def locate_copies(self, address: int, size: int) -> tuple[int, ...]:
        """The offset in the volume of each copy of these bytes.

        Raises FormatError if they are not in a chunk.
        """
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            chunk = self._chunks[index]
            if address + size <= chunk.start + chunk.length:
                return tuple(copy + address - chunk.start for copy in chunk.copies)
        raise FormatError(f"{size} bytes at address {address} are not in a chunk")
