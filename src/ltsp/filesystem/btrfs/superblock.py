"""Parse the superblock of btrfs, and map logical addresses to offsets in the volume by the chunks.

Linux include/uapi/linux/btrfs_tree.h, struct btrfs_chunk; fs/btrfs/disk-io.c
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from ltsp import errors
from ltsp.errors import FormatError, SourceError
from ltsp.storage.checksum import crc32c_inverted
from ltsp.tree.name import decode

OFFSET = 0x10000
SIZE = 4096
MAGIC = b"_BHRfS_M"
MAGIC_OFFSET = 64
REMEDY = "run btrfs check on it, or on a copy"
CHECKSUM_SIZE = 32
"""Bytes of the checksum field at the start of the superblock and of each node."""

_ACCEPTED_INCOMPAT = 0x10FFF
"""Incompatible features that are irrelevant here or supported: up to raid1c34, and simple_quota."""
_ZONED, _EXTENT_TREE_V2, _RAID_STRIPE_TREE = 0x1000, 0x2000, 0x4000
_FEATURE_NAMES = {_ZONED: "zoned", _EXTENT_TREE_V2: "extent tree v2", _RAID_STRIPE_TREE: "raid stripe tree"}


Checksum = Callable[[bytes], bytes]
"""Computes the checksum of a node or of a sector of data."""


_CHUNK = struct.Struct("<QQQQIIIHH")
_STRIPE = struct.Struct("<QQ16s")
_KEY = struct.Struct("<QBQ")
_CHUNK_ITEM = 228
_UNSUPPORTED_PROFILES = {3: "raid0", 4: "raid1", 6: "raid10", 7: "raid5", 8: "raid6", 9: "raid1c3", 10: "raid1c4"}
"""By bit of the type; single has no bit, and dup (5) has two copies on one device."""
_DUPLICATE = 1 << 5
_MAX_CHUNKS = 1 << 20
"""Chunks: enough for 256 TiB."""


def _crc32c(data: bytes) -> bytes:
    return crc32c_inverted(data).to_bytes(4, "little")


def _xxhash(data: bytes) -> bytes:
    with errors.require_library("a btrfs with xxhash checksums", "xxhash", "disk"):
        import xxhash  # noqa: PLC0415 - an extra
    return xxhash.xxh64_intdigest(data).to_bytes(8, "little")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


_CHECKSUM_TYPES: dict[int, Checksum] = {0: _crc32c, 1: _xxhash, 2: _sha256, 3: _blake2b}
"""Checksums by number. Linux enum btrfs_csum_type"""


@dataclass(frozen=True, slots=True)
class BtrfsSuperblock:
    uuid: str
    label: str
    root: int
    root_level: int
    root_generation: int
    chunk_root: int
    chunk_root_level: int
    chunk_root_generation: int
    system_chunks: bytes
    """Keys and chunk items of the chunks that contain the chunk tree."""
    log_root: int
    node_size: int
    """Bytes."""
    sector_size: int
    device_id: int
    device_count: int
    device_size: int
    """Bytes."""
    checksum: Checksum

    @classmethod
    def parse(cls, raw: bytes) -> BtrfsSuperblock:
        """Raises FormatError if it is damaged, SourceError if it has unknown features."""
        if len(raw) < SIZE or raw[MAGIC_OFFSET : MAGIC_OFFSET + 8] != MAGIC:
            raise FormatError("not a btrfs file system")

        def number(at: int, size: int = 8) -> int:
            return int.from_bytes(raw[at : at + size], "little")

        checksum = _CHECKSUM_TYPES.get(number(196, 2))
        if checksum is None:
            raise SourceError(f"the btrfs file system has an unknown checksum type, {number(196, 2)}")
        if not raw.startswith(checksum(raw[CHECKSUM_SIZE:])):
            hint = "run btrfs rescue super-recover on a copy"
            raise FormatError("the superblock of the btrfs file system is damaged: wrong checksum", hint)
        if unknown := number(188) & ~(_ACCEPTED_INCOMPAT & ~_ZONED):
            names = ", ".join(name for bit, name in _FEATURE_NAMES.items() if unknown & bit) or f"0x{unknown:x}"
            raise SourceError(f"the btrfs file system has unknown features: {names}")
        found = cls(
            uuid=str(UUID(bytes=raw[32:48])),
            label=decode(raw[299:555].split(b"\0", 1)[0]),
            root=number(80),
            root_level=raw[198],
            root_generation=number(72),
            chunk_root=number(88),
            chunk_root_level=raw[199],
            chunk_root_generation=number(164),
            system_chunks=raw[811 : 811 + min(number(160, 4), 2048)],
            log_root=number(96),
            node_size=number(148, 4),
            sector_size=number(144, 4),
            device_id=number(201),
            device_count=number(136),
            device_size=number(209),
            checksum=checksum,
        )
        sizes = {1 << bit for bit in range(12, 17)}
        if found.node_size not in sizes or found.sector_size not in sizes or found.sector_size > found.node_size:
            invalid = f"node size {found.node_size}, sector size {found.sector_size}"
            raise FormatError(f"the superblock of the btrfs file system is damaged: {invalid}", REMEDY)
        if found.device_count != 1:
            raise SourceError(
                f"the btrfs file system spans {found.device_count} devices, but only one can be read",
                "mount all of them, and run ltsp image on the mount point",
            )
        return found


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
                raise FormatError("the btrfs system chunk array (in the superblock) is damaged")
            stripes = self.add(start, packed[at:])
            at += _CHUNK.size + stripes * _STRIPE.size

    def add(self, start: int, item: bytes) -> int:
        """Add a chunk at an address; return the number of its stripes.

        Raises SourceError if it needs other devices.
        """
        length, _, _, kind, _, _, _, count, _ = _parse_chunk(item)
        for bit, name in _UNSUPPORTED_PROFILES.items():
            if kind >> bit & 1:
                raise SourceError(
                    f"the btrfs profile {name} is not supported",
                    "mount it, and run ltsp image on the mount point",
                )
        if count != (2 if kind & _DUPLICATE else 1) or not length:
            raise FormatError(f"the btrfs chunk at {start} is damaged: it has {count} stripes")
        copies = []
        for number in range(count):
            device, place, _ = _STRIPE.unpack_from(item, _CHUNK.size + number * _STRIPE.size)
            if device != self.device or place + length > self.size:
                raise FormatError(f"the btrfs chunk at {start} is damaged: it is outside of the volume")
            copies.append(place)
        index = bisect_right(self._starts, start)
        if index and self._starts[index - 1] == start:
            return count
        if len(self._starts) >= _MAX_CHUNKS:
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
        raise FormatError(f"no btrfs chunk contains the {size} bytes at address {address}")
