"""Order extended attributes, and convert POSIX ACLs from their form on disk to that of getxattr(2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from ltsp.errors import FormatError
from ltsp.tree.name import decode

Xattrs = tuple[tuple[str, bytes], ...]

_USER, _GROUP = 0x02, 0x08
_TAGS = frozenset({0x01, _USER, 0x04, _GROUP, 0x10, 0x20})
"""Tags of ACL entries; only named users and groups have an id. acl(5)"""
_NO_ID = 0xFFFFFFFF
_XATTR_VERSION = 2
"""Version of the form that programs see. Linux include/uapi/linux/posix_acl_xattr.h"""
_ACL_ENTRY = struct.Struct("<HHI")


_MAX_SIZE = 8 << 20
"""Bytes of all names and values of one inode. Linux lists at most 64 KiB of names; values seldom take that much."""


def collect_attributes(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Raises FormatError if they are too large to be genuine."""
    attributes: dict[bytes, bytes] = {}
    size = 0
    for name, value in pairs:
        size += len(name) + len(value)
        if size > _MAX_SIZE:
            raise FormatError(f"its extended attributes are larger than {_MAX_SIZE >> 20} MiB")
        attributes[name] = value
    return attributes


def sort_attributes(attributes: Mapping[bytes, bytes]) -> Xattrs:
    """In the order of a tree: by the bytes of their full names."""
    return tuple((decode(name), attributes[name]) for name in sorted(attributes)) if attributes else ()


def convert_ext_acl(stored: bytes) -> bytes:
    """From the packed form of ext2, 3 and 4. Linux fs/ext4/acl.c"""
    if len(stored) < 4 or stored[:4] != b"\1\0\0\0":
        raise FormatError("an access control list is damaged")
    entries = []
    at = 4
    while at < len(stored):
        tag, permissions = struct.unpack_from("<HH", stored, at)
        at += 4
        identity = _NO_ID
        if tag in {_USER, _GROUP}:
            (identity,) = struct.unpack_from("<I", stored, at)
            at += 4
        entries.append((tag, permissions, identity))
    return pack_acl(entries)


def pack_acl(entries: list[tuple[int, int, int]]) -> bytes:
    """The ACL of entries with tag, permissions and id; only named users and groups use the id."""
    if any(tag not in _TAGS for tag, _, _ in entries):
        raise FormatError("an access control list is damaged")
    packed = [
        _ACL_ENTRY.pack(tag, permissions & 0xFFFF, identity if tag in {_USER, _GROUP} else _NO_ID)
        for tag, permissions, identity in entries
    ]
    return struct.pack("<I", _XATTR_VERSION) + b"".join(packed)
