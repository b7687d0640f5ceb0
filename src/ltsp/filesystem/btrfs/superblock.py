"""Parse the superblock of btrfs. Linux include/uapi/linux/btrfs_tree.h, fs/btrfs/disk-io.c"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ltsp import errors
from ltsp.errors import FormatError, SourceError
from ltsp.storage.checksum import crc32c_inverted
from ltsp.tree.name import decode

PLACE = 0x10000
SIZE = 4096
MAGIC = b"_BHRfS_M"
MAGIC_AT = 64
REMEDY = "run btrfs check on it, or on a copy"
CHECKSUM_SIZE = 32
"""Bytes of the checksum field at the start of the superblock and of each node."""

_KNOWN = 0x10FFF
"""Incompatible features that are irrelevant here or supported: up to raid1c34, and simple_quota."""
_ZONED, _EXTENTS_2, _STRIPES = 0x1000, 0x2000, 0x4000
_NAMES = {_ZONED: "zoned", _EXTENTS_2: "extent tree v2", _STRIPES: "raid stripe tree"}


Checksum = Callable[[bytes], bytes]
"""Computes the checksum of a node or of a sector of data."""


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


_CHECKSUMS: dict[int, Checksum] = {0: _crc32c, 1: _xxhash, 2: _sha256, 3: _blake2b}
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
    device: int
    devices: int
    device_size: int
    """Bytes."""
    checksum: Checksum

    @classmethod
    def parse(cls, raw: bytes) -> BtrfsSuperblock:
        """Raises FormatError if it is damaged, SourceError if it has unknown features."""
        if len(raw) < SIZE or raw[MAGIC_AT : MAGIC_AT + 8] != MAGIC:
            raise FormatError("not a btrfs file system")

        def number(at: int, size: int = 8) -> int:
            return int.from_bytes(raw[at : at + size], "little")

        checksum = _CHECKSUMS.get(number(196, 2))
        if checksum is None:
            raise SourceError(f"the btrfs file system has an unknown checksum type, {number(196, 2)}")
        if not raw.startswith(checksum(raw[CHECKSUM_SIZE:])):
            hint = "run btrfs rescue super-recover on a copy"
            raise FormatError("the superblock of the btrfs file system is damaged: wrong checksum", hint)
        if unknown := number(188) & ~(_KNOWN & ~_ZONED):
            names = ", ".join(name for bit, name in _NAMES.items() if unknown & bit) or f"0x{unknown:x}"
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
            device=number(201),
            devices=number(136),
            device_size=number(209),
            checksum=checksum,
        )
        sizes = {1 << bit for bit in range(12, 17)}
        if found.node_size not in sizes or found.sector_size not in sizes or found.sector_size > found.node_size:
            raise FormatError("the superblock of the btrfs file system is damaged: invalid numbers", REMEDY)
        if found.devices != 1:
            raise SourceError(
                f"the btrfs file system spans {found.devices} devices, but only one can be read",
                "mount all of them, and pass the mount point",
            )
        return found
