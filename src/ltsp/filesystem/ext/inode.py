"""Parse an ext inode and its extended attributes. Linux fs/ext4/ext4.h, xattr.h"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.filesystem.attributes import convert_ext_acl
from ltsp.storage import checksum
from ltsp.storage.checksum import crc32c

_RECORD = struct.Struct("<HHIIIIIHHIII60sIIII12s")
"""From the mode to the end of the 128-byte record."""
_OWNERS = struct.Struct("<HHHH")
_EXTRA_OFFSET = 128
_ATIME_OFFSET, _GENERATION_OFFSET = 0x8, 0x64
_CHECKSUM_LOW_OFFSET, _CHECKSUM_HIGH_OFFSET = 0x7C, 0x82
"""Offsets of the two halves of the checksum; the second only in large inodes."""
_XATTR_MAGIC = b"\0\0\x02\xea"
_BLOCK_HEADER_SIZE = 32
_BLOCK_CHECKSUM_OFFSET = 16
_ENTRY = struct.Struct("<BBHIII")
_WORD_MASK = 0xFFFFFFFF
MAX_VALUE_SIZE = 65536
"""Largest attribute value in bytes. xattr(7)"""

ENCRYPTED = 0x800
HUGE = 0x40000
EXTENTS = 0x80000
EA_INODE = 0x200000
INLINE_DATA = 0x10000000

_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
    7: b"system.",
}
_ACLS = frozenset({2, 3})
INLINE_DATA_XATTR = b"system.data"
"""The attribute with the part of an inline file that exceeds the inode's block field."""


@dataclass(frozen=True, slots=True)
class LargeValue:
    """An attribute entry whose value is in an inode of its own."""

    inode: int
    size: int
    name: bytes
    """Name without the prefix, which is stored as a number."""
    hash: int

    def check_value(self, value: bytes, record: ExtInode, parent: ExtInode, seed: int) -> None:
        """Raises FormatError if the value is not the one stored in `record` for this entry of `parent`.

        Linux ext4_xattr_inode_iget, ext4_xattr_inode_verify_hashes
        """
        if (record.mtime & _WORD_MASK, record.generation) == (parent.number, parent.generation) and (
            record.atime != self.hash
        ):
            return  # Lustre's form, which names the parent instead
        if not checksum.matches_ext4(value, record.atime, seed):
            raise FormatError(f"the value of its attribute in inode {self.inode} is damaged: wrong checksum")
        if self.hash not in {_hash_entry(self.name, record.atime, signed=signed) for signed in (False, True)}:
            raise FormatError(f"its attribute in inode {self.inode} is damaged: wrong hash of its entry")


def _hash_entry(name: bytes, value: int, *, signed: bool) -> int:
    """The hash of a name and the hash of its value. Some kernels treat bytes as signed. Linux ext4_xattr_hash_entry"""
    found = 0
    for byte in name:
        found = _rotate_left(found, 5) ^ (byte - 256 & _WORD_MASK if signed and byte > 127 else byte)
    return _rotate_left(found, 16) ^ value


def _rotate_left(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _WORD_MASK


@dataclass(frozen=True, slots=True)
class ExtInode:
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Seconds since 1970."""
    links: int
    flags: int
    stored: int
    """Bytes allocated on disk."""
    map: bytes
    """The 60 bytes with the block map or the inline content."""
    attribute_block: int
    """0 if there is none."""
    xattr_area: bytes
    """The area after the record and its extra fields, with attributes."""
    seed: int | None
    """Seed of the checksums of its blocks; None without checksums."""
    number: int
    generation: int
    atime: int
    """Seconds since 1970, unsigned; the hash, for an attribute value."""

    @classmethod
    def parse(cls, raw: bytes, block_size: int, number: int, seed: int | None) -> ExtInode:
        """`seed` is that of the file system.

        Raises FormatError if it is damaged.
        """
        mode, uid, low, _, _, seconds, _, gid, links, blocks, flags, _, mapped, _, attributes, high, _, more = (
            _RECORD.unpack_from(raw)
        )
        blocks_high, attributes_high, uid_high, gid_high = _OWNERS.unpack_from(more)
        extra = int.from_bytes(raw[128:130], "little") if len(raw) > _EXTRA_OFFSET else 0
        if extra + _EXTRA_OFFSET > len(raw):
            raise FormatError("its record is damaged")
        if seed is not None:
            seed = _verify_checksum(
                raw,
                extra,
                crc32c(number.to_bytes(4, "little") + raw[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], seed),
            )
        if seconds >= 1 << 31:
            seconds -= 1 << 32
        if extra >= 0x8C - _EXTRA_OFFSET:
            seconds += (raw[0x88] & 3) << 32
        blocks |= blocks_high << 32
        if not stat.S_ISREG(mode):
            high = 0  # another field in old directories, none of which is that large. Linux ext4_isize
        return cls(
            mode=mode,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            size=low | high << 32,
            mtime=seconds,
            links=links,
            flags=flags,
            stored=blocks * (block_size if flags & HUGE else 512),
            map=mapped,
            attribute_block=attributes | attributes_high << 32,
            xattr_area=raw[_EXTRA_OFFSET + extra :] if extra else b"",
            seed=seed,
            number=number,
            generation=int.from_bytes(raw[_GENERATION_OFFSET : _GENERATION_OFFSET + 4], "little"),
            atime=int.from_bytes(raw[_ATIME_OFFSET : _ATIME_OFFSET + 4], "little"),
        )

    def ibody_xattrs(self, read_large_value: Callable[[LargeValue], bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The attributes in the inode. `read_large_value` reads a value that is in an inode of its own."""
        if self.xattr_area[:4] == _XATTR_MAGIC:
            yield from _parse_xattrs(self.xattr_area[4:], 0, read_large_value)


def _verify_checksum(raw: bytes, extra: int, seed: int) -> int:
    """Verify the checksum; return the inode's seed. Linux ext4_inode_csum"""
    expected = int.from_bytes(raw[_CHECKSUM_LOW_OFFSET : _CHECKSUM_LOW_OFFSET + 2], "little")
    blanked = raw[:_CHECKSUM_LOW_OFFSET] + bytes(2) + raw[_CHECKSUM_LOW_OFFSET + 2 :]
    wide = extra >= _CHECKSUM_HIGH_OFFSET + 2 - _EXTRA_OFFSET
    if wide:
        expected |= int.from_bytes(raw[_CHECKSUM_HIGH_OFFSET : _CHECKSUM_HIGH_OFFSET + 2], "little") << 16
        blanked = blanked[:_CHECKSUM_HIGH_OFFSET] + bytes(2) + blanked[_CHECKSUM_HIGH_OFFSET + 2 :]
    if not checksum.matches_ext4(blanked, expected, seed, bits=32 if wide else 16):
        raise FormatError("its record is damaged: wrong checksum")
    return seed


def check_xattr_block(block: bytes, number: int, seed: int | None) -> None:
    """Verify the checksum of an attribute block. Linux ext4_xattr_block_csum

    `number` is its block number; `seed` is that of the file system. Raises FormatError.
    """
    if seed is None:
        return
    begin = crc32c(number.to_bytes(8, "little"), seed)
    expected = int.from_bytes(block[_BLOCK_CHECKSUM_OFFSET : _BLOCK_CHECKSUM_OFFSET + 4], "little")
    if not checksum.matches_ext4(
        block[:_BLOCK_CHECKSUM_OFFSET] + bytes(4) + block[_BLOCK_CHECKSUM_OFFSET + 4 :], expected, begin
    ):
        raise FormatError("its extended attribute block is damaged: wrong checksum")


def parse_xattr_block(block: bytes, read_large_value: Callable[[LargeValue], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The attributes in an attribute block, which inodes may share. Raises FormatError."""
    if block[:4] != _XATTR_MAGIC:
        raise FormatError("its extended attribute block is damaged")
    yield from _parse_xattrs(block, _BLOCK_HEADER_SIZE, read_large_value)


def _parse_xattrs(
    data: bytes, at: int, read_large_value: Callable[[LargeValue], bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Names and values; `at` is the offset of the entries, and values are relative to the start of the data."""
    while data[at : at + 4] not in {b"\0\0\0\0", b""}:
        name_size, prefix, place, inode, size, entry_hash = _ENTRY.unpack_from(data, at)
        name = data[at + _ENTRY.size : at + _ENTRY.size + name_size]
        at = (at + _ENTRY.size + name_size + 3) & ~3
        if at > len(data) or size > MAX_VALUE_SIZE or (not inode and place + size > len(data)):
            raise FormatError("its attributes are damaged")
        known = _PREFIXES.get(prefix)
        if known is None:
            continue
        if b"\0" in name or (prefix in _ACLS and name):
            raise FormatError("its attributes are damaged")
        value = read_large_value(LargeValue(inode, size, name, entry_hash)) if inode else data[place : place + size]
        yield known + name, convert_ext_acl(value) if prefix in _ACLS else value
