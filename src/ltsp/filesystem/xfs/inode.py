"""Parse an xfs inode. Linux fs/xfs/libxfs/xfs_format.h, struct xfs_dinode"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from ltsp.errors import FormatError
from ltsp.filesystem import checksum

_CORE = struct.Struct(">2sHBBHIIIHHQqqqQQIIHBbIHHII")
_CORE_SIZE = 100
_CORE_3_SIZE = 176
_CHECKSUM_AT = 100
_REALTIME = 0x1
_BIGTIME = 1 << 3
_LARGE_COUNTS = 1 << 4
_SECOND = 1_000_000_000
_BIGTIME_EPOCH = -(1 << 31)
"""Seconds before 1970 at which big timestamps start."""


class ForkFormat(IntEnum):
    """The content of a fork in the inode."""

    DEVICE = 0
    LOCAL = 1
    EXTENTS = 2
    TREE = 3


@dataclass(frozen=True, slots=True)
class Fork:
    """The data or attribute fork of an inode."""

    format: int
    data: bytes
    extents: int
    """Number of extents."""


@dataclass(frozen=True, slots=True)
class XfsInode:
    number: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    """Seconds since 1970."""
    size: int
    blocks: int
    realtime: bool
    """Whether its content is on the realtime device."""
    content: Fork
    attributes: Fork | None

    @classmethod
    def parse(cls, raw: bytes, number: int) -> XfsInode:
        """Raises FormatError if it is not an inode, or has another number."""
        (
            magic, mode, version, form, old_links, uid, gid, links, _, _, large_count, _, mtime, _, size, blocks,
            _, count, attribute_count, offset, attribute_form, _, _, flags, _, _,
        ) = _CORE.unpack_from(raw)  # fmt: skip
        if magic != b"IN" or version not in {1, 2, 3}:
            raise FormatError(f"inode {number} has no valid magic number")
        flags2, start = 0, _CORE_SIZE
        if version == 3:
            flags2, start = int.from_bytes(raw[120:128], "big"), _CORE_3_SIZE
            if not checksum.matches_xfs(raw, _CHECKSUM_AT):
                raise FormatError(f"inode {number} is damaged: wrong checksum")
            if int.from_bytes(raw[152:160], "big") != number:
                raise FormatError(f"inode {number} is damaged: it records another number")
        if flags2 & _LARGE_COUNTS:
            count, attribute_count = large_count, count
        unsigned = mtime & (1 << 64) - 1
        seconds = unsigned // _SECOND + _BIGTIME_EPOCH if flags2 & _BIGTIME else mtime >> 32
        border = start + 8 * offset if offset else len(raw)
        if border > len(raw):
            raise FormatError(f"inode {number} is damaged: its attributes are outside of it")
        return cls(
            number=number,
            mode=mode,
            uid=uid,
            gid=gid,
            links=old_links if version == 1 else links,
            mtime=seconds,
            size=size,
            blocks=blocks,
            realtime=bool(flags & _REALTIME),
            content=Fork(form, raw[start:border], count),
            attributes=Fork(attribute_form, raw[border:], attribute_count) if offset else None,
        )
