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
_EXTRA_AT = 128
_ACCESSED_AT, _GENERATION_AT = 0x8, 0x64
_SUM_LOW, _SUM_HIGH = 0x7C, 0x82
"""Offsets of the two halves of the checksum; the second only in large inodes."""
_XATTR_MAGIC = b"\0\0\x02\xea"
_BLOCK_HEADER = 32
_BLOCK_SUM = 16
_ENTRY = struct.Struct("<BBHIII")
_WORD = 0xFFFFFFFF
MOST_VALUE = 65536
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
INLINE_REST = b"system.data"
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
        if (record.mtime & _WORD, record.generation) == (parent.number, parent.generation) and (
            record.accessed != self.hash
        ):
            return  # Lustre's form, which names the parent instead
        if not checksum.matches_ext4(value, record.accessed, seed):
            raise FormatError(f"the value of its attribute in inode {self.inode} is damaged: wrong checksum")
        if self.hash not in {_entry_hash(self.name, record.accessed, signed=signed) for signed in (False, True)}:
            raise FormatError(f"its attribute in inode {self.inode} is damaged: wrong hash of its entry")


def _entry_hash(name: bytes, value: int, *, signed: bool) -> int:
    """The hash of a name and the hash of its value. Some kernels treat bytes as signed. Linux ext4_xattr_hash_entry"""
    found = 0
    for byte in name:
        found = _rotated(found, 5) ^ (byte - 256 & _WORD if signed and byte > 127 else byte)
    return _rotated(found, 16) ^ value


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _WORD


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
    rest: bytes
    """The area after the record and its extra fields, with attributes."""
    seed: int | None
    """Seed of the checksums of its blocks; None without checksums."""
    number: int
    generation: int
    accessed: int
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
        extra = int.from_bytes(raw[128:130], "little") if len(raw) > _EXTRA_AT else 0
        if extra + _EXTRA_AT > len(raw):
            raise FormatError("its record is damaged")
        if seed is not None:
            seed = _verify_checksum(
                raw, extra, crc32c(number.to_bytes(4, "little") + raw[_GENERATION_AT : _GENERATION_AT + 4], seed)
            )
        if seconds >= 1 << 31:
            seconds -= 1 << 32
        if extra >= 0x8C - _EXTRA_AT:
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
            rest=raw[_EXTRA_AT + extra :] if extra else b"",
            seed=seed,
            number=number,
            generation=int.from_bytes(raw[_GENERATION_AT : _GENERATION_AT + 4], "little"),
            accessed=int.from_bytes(raw[_ACCESSED_AT : _ACCESSED_AT + 4], "little"),
        )

    def ibody_xattrs(self, large: Callable[[LargeValue], bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The attributes in the inode. `large` reads a value that is in an inode of its own."""
        if self.rest[:4] == _XATTR_MAGIC:
            yield from _parse_xattrs(self.rest[4:], 0, large)


def _verify_checksum(raw: bytes, extra: int, seed: int) -> int:
    """Verify the checksum; return the inode's seed. Linux ext4_inode_csum"""
    expected = int.from_bytes(raw[_SUM_LOW : _SUM_LOW + 2], "little")
    blanked = raw[:_SUM_LOW] + bytes(2) + raw[_SUM_LOW + 2 :]
    wide = extra >= _SUM_HIGH + 2 - _EXTRA_AT
    if wide:
        expected |= int.from_bytes(raw[_SUM_HIGH : _SUM_HIGH + 2], "little") << 16
        blanked = blanked[:_SUM_HIGH] + bytes(2) + blanked[_SUM_HIGH + 2 :]
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
    expected = int.from_bytes(block[_BLOCK_SUM : _BLOCK_SUM + 4], "little")
    if not checksum.matches_ext4(block[:_BLOCK_SUM] + bytes(4) + block[_BLOCK_SUM + 4 :], expected, begin):
        raise FormatError("its extended attribute block is damaged: wrong checksum")


def parse_xattr_block(block: bytes, large: Callable[[LargeValue], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The attributes in an attribute block, which inodes may share. Raises FormatError."""
    if block[:4] != _XATTR_MAGIC:
        raise FormatError("its extended attribute block is damaged")
    yield from _parse_xattrs(block, _BLOCK_HEADER, large)


def _parse_xattrs(data: bytes, at: int, large: Callable[[LargeValue], bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Names and values; `at` is the offset of the entries, and values are relative to the start of the data."""
    while data[at : at + 4] not in {b"\0\0\0\0", b""}:
        name_size, prefix, place, inode, size, entry_hash = _ENTRY.unpack_from(data, at)
        name = data[at + _ENTRY.size : at + _ENTRY.size + name_size]
        at = (at + _ENTRY.size + name_size + 3) & ~3
        if at > len(data) or size > MOST_VALUE or (not inode and place + size > len(data)):
            raise FormatError("its attributes are damaged")
        known = _PREFIXES.get(prefix)
        if known is None:
            continue
        if b"\0" in name or (prefix in _ACLS and name):
            raise FormatError("its attributes are damaged")
        value = large(LargeValue(inode, size, name, entry_hash)) if inode else data[place : place + size]
        yield known + name, convert_ext_acl(value) if prefix in _ACLS else value
