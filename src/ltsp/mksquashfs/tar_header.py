"""Write the header of a tar entry: POSIX pax records before a ustar block. pax(1), tar(5) of libarchive

Numbers and names that do not fit go into pax records, with two exceptions for mksquashfs 4.5.1: the target of a link
goes into a GNU `K` record, because mksquashfs strips a leading `/` or `../` from a pax `linkpath`; and times are never
in a record, because it accepts only those with a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)

_NAME_SIZE = 100
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777


class TarType(Enum):
    """The type flag."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True)
class TarEntry:
    kind: TarType
    path: bytes
    """Relative to the root, without a leading `./`."""
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    mtime: int
    """Whole seconds since 1970, 0 to the latest that squashfs can store, which fits into 11 octal digits."""
    size: int = 0
    """Bytes of a file's data."""
    target: bytes = b""
    """Target of a symbolic link; for a hard link, the first path of the node."""
    major: int = 0
    minor: int = 0
    xattrs: Sequence[tuple[bytes, bytes]] = ()
    """Full names, without `=`, and values."""

    def pack(self) -> bytes:
        """The blocks before the entry's data."""
        records = []
        if len(self.path) > _NAME_SIZE:
            records.append(_pack_record(b"path", self.path))
        if self.uid > _MAX_OCTAL_ID:
            records.append(_pack_record(b"uid", b"%d" % self.uid))
        if self.gid > _MAX_OCTAL_ID:
            records.append(_pack_record(b"gid", b"%d" % self.gid))
        if self.size > _MAX_OCTAL_SIZE:
            records.append(_pack_record(b"size", b"%d" % self.size))
        records.extend(_pack_record(b"SCHILY.xattr." + name, value) for name, value in self.xattrs)
        # The GNU record comes first: after a pax size, mksquashfs would use that as the size of this record.
        blocks = [_pack_extension(b"K", b"././@LongLink", self.target + b"\0")] if len(self.target) > _NAME_SIZE else []
        if records:
            blocks.append(_pack_extension(b"x", b"././@PaxHeader", b"".join(records)))
        blocks.append(
            _pack_header(
                self.kind.value,
                self.path,
                mode=self.mode,
                uid=self.uid if self.uid <= _MAX_OCTAL_ID else 0,
                gid=self.gid if self.gid <= _MAX_OCTAL_ID else 0,
                size=self.size if self.size <= _MAX_OCTAL_SIZE else 0,
                mtime=self.mtime,
                target=self.target,
                major=self.major,
                minor=self.minor,
            )
        )
        return b"".join(blocks)


def padding(size: int) -> bytes:
    """The padding after data of this size, up to the next block."""
    return bytes(-size % BLOCK)


def _pack_record(keyword: bytes, value: bytes) -> bytes:
    """`LENGTH KEYWORD=VALUE`; the length includes its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def _pack_extension(flag: bytes, name: bytes, data: bytes) -> bytes:
    return _pack_header(flag, name, mode=0o644, size=len(data)) + data + padding(len(data))


def _pack_header(
    flag: bytes,
    path: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    """A ustar header, without user and group names: mksquashfs would look them up on this machine."""
    block = bytearray(BLOCK)
    block[0:100] = path[:_NAME_SIZE].ljust(100, b"\0")
    block[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    block[148:156] = b" " * 8
    block[156:157] = flag
    block[157:257] = target[:_NAME_SIZE].ljust(100, b"\0")
    block[257:265] = b"ustar\00000"
    block[329:345] = b"%07o\0%07o\0" % (major, minor)
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
