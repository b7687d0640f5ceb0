"""The members of a tar archive, one after the other, whatever wrote it: v7, ustar, pax, GNU, star.

Python's tarfile would do it too, but not within what is promised for hostile input: an extended header of 128 KiB of
digits takes it 18 s (Python 3.11.7), a negative size hides the members that follow, times come as floating point
numbers that round a fraction up to the next second, and what an attribute's value looks like can be taken for a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ltsp.archive import pax, sparse
from ltsp.archive.header import BLOCK, Header
from ltsp.archive.input import Feed, cut_off
from ltsp.archive.limits import Allowance
from ltsp.archive.pax import Record
from ltsp.archive.stored import Sparse, Whole
from ltsp.errors import FormatError
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Metadata

_LARGEST_EXTENSION: Final = 1 << 20
"""Bytes of an extended header or a long name. Linux keeps 64 KiB of attributes for a file on most file systems."""
_LARGEST_ID: Final = (1 << 32) - 2
"""The last number means `leave it` to chown(2)."""
_MOST_EXTENSIONS: Final = 8
"""In front of one member: a name, a link, a pax header; twice each is more than any writer makes."""
_DISK_HEAD: Final = 68 << 10
"""Bytes in which a file system on a disk shows itself: zeros at the beginning are no sign of an archive alone."""
_MOST_GLOBAL: Final = 64
"""Records of global headers, which are looked through for each member."""
_MEMORY: Final = 400
"""Bytes that a member takes in a tree, about."""

_RUN: Final = 100
"""Bytes that a run of data in a sparse file takes, about."""


class Kind(Enum):
    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "FIFO"


_KINDS: Final[Mapping[bytes, Kind]] = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"D": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
"""`7` is a contiguous file, `S` one with holes, `D` a directory with the list of its entries (GNU, incremental)."""
_UNSUPPORTED: Final[Mapping[bytes, str]] = {b"M": "a part of an archive of several volumes", b"N": "an old long name"}


@dataclass(frozen=True, slots=True)
class Member:
    kind: Kind
    path: bytes
    """As it is written, and so not to be trusted: it may be absolute or lead upwards."""
    metadata: Metadata
    target: bytes = b""
    """Of a link, as it is written."""
    content: Whole | Sparse | None = None
    """Of a file."""
    major: int = 0
    minor: int = 0


@dataclass(slots=True)
class _Extensions:
    """What stands before a member's own header."""

    records: Sequence[Record] = ()
    path: bytes | None = None
    target: bytes | None = None
    count: int = 0


def members(feed: Feed, allowance: Allowance, *, must_end: bool = True) -> Iterator[Member]:
    """Each member, in order.

    `must_end`: an archive without the zeros that end it was cut off, as nothing else vouches for it. Raises
    FormatError, LtspError where there is no room for data.
    """
    everywhere: dict[bytes, bytes] = {}
    before = _Extensions()
    while True:
        place = feed.at
        block = feed.read(BLOCK)
        header = Header.parse(block, place) if len(block) == BLOCK else None
        if header is None:
            if not (place or block) and must_end:
                raise FormatError("is empty", "see whether what should have written it failed")
            if before.count or (block and len(block) < BLOCK) or (not block and must_end):
                raise cut_off()
            if not place and block and any(feed.read(_DISK_HEAD - BLOCK)):
                raise FormatError("is no tar archive, though it begins like an empty one: with zeros")
            feed.drain()
            return
        if header.flag in b"xXgLK":
            before.count += 1
            if before.count > _MOST_EXTENSIONS:
                raise FormatError(f"is damaged: {before.count} extended headers at {place} are for one member")
            _extend(before, everywhere, header, feed, allowance)
        elif header.flag in b"AV":
            _passed(feed, header.size)  # access control lists of Solaris, the label of a tape
        else:
            yield _member(header, block, before, everywhere, feed, allowance)
            before = _Extensions()


def _extend(
    before: _Extensions, everywhere: dict[bytes, bytes], header: Header, feed: Feed, allowance: Allowance
) -> None:
    if header.size > _LARGEST_EXTENSION:
        raise FormatError(f"is damaged: an extended header of {header.size} bytes is larger than any member needs")
    data = _padded(feed, header.size)
    allowance.take(len(data))
    match header.flag:
        case b"L":
            before.path = data.partition(b"\0")[0]
        case b"K":
            before.target = data.partition(b"\0")[0]
        case b"g":
            latest = pax.latest(pax.records(data), everywhere)
            if len(latest) > _MOST_GLOBAL:
                raise FormatError(f"is damaged: {len(latest)} records are said to hold for all members")
            everywhere.clear()
            everywhere.update(latest)
        case _:
            before.records = pax.records(data)


def _member(
    header: Header,
    block: bytes,
    before: _Extensions,
    everywhere: Mapping[bytes, bytes],
    feed: Feed,
    allowance: Allowance,
) -> Member:
    values = pax.latest(before.records, everywhere) if before.records or everywhere else {}
    path = values.get(b"GNU.sparse.name") or values.get(b"path") or before.path or header.path
    kind = _KINDS.get(header.flag)
    if kind is None:
        what = _UNSUPPORTED.get(header.flag, f"a member of type {decode(header.flag)!a}")
        raise FormatError(f"holds {what}, which is not supported: {printable(decode(path))}")
    if header.flag in b"0\0" and path.endswith(b"/"):
        kind = Kind.DIRECTORY  # as Unix v7 wrote them
    allowance.take(_MEMORY + len(path))
    size = pax.amount(values, b"size", header.size)
    content = None
    if kind is Kind.FILE:
        content = _content(header, block, before.records, values, size, feed, allowance)
    elif header.flag == b"D":
        _passed(feed, size)
    target = values.get(b"linkpath") or before.target or header.target
    metadata = _metadata(header, values)
    major = pax.amount(values, b"SCHILY.devmajor", header.major)
    minor = pax.amount(values, b"SCHILY.devminor", header.minor)
    return Member(kind, path, metadata, target, content, major, minor)


def _content(
    header: Header,
    block: bytes,
    records: Sequence[Record],
    values: Mapping[bytes, bytes],
    size: int,
    feed: Feed,
    allowance: Allowance,
) -> Whole | Sparse:
    def read(wanted: int) -> bytes:
        data = feed.read(wanted)
        if len(data) < wanted:
            raise cut_off()
        allowance.take(wanted)
        return data

    found = None
    taken = 0
    if header.flag == b"S":
        found = sparse.of_block(block, read)
    elif values:
        told = sparse.of_records(records, values, read)
        if told is not None:
            found, taken = told
    if taken > size:
        raise FormatError("is damaged: the map of a sparse file is larger than its data")
    allowance.take(_RUN * len(found.pairs) if found else 0)
    base, place = feed.keep(size - taken)
    _padding(feed, size)
    if found is None:
        return Whole(base, place, size)
    return Sparse(base, place, found.size, *found.checked(size - taken))


def _metadata(header: Header, values: Mapping[bytes, bytes]) -> Metadata:
    uid, gid = pax.amount(values, b"uid", header.uid), pax.amount(values, b"gid", header.gid)
    if max(uid, gid) > _LARGEST_ID:
        raise FormatError(f"is damaged: {max(uid, gid)} is nobody's number")
    return Metadata(
        header.mode & 0o7777,
        uid,
        gid,
        pax.seconds(values, header.mtime),
        pax.xattrs(values) if values else (),
    )


def _padded(feed: Feed, size: int) -> bytes:
    """Data of an extended header, which fill whole blocks."""
    data = feed.read(size + -size % BLOCK)
    if len(data) < size:
        raise cut_off()
    return data[:size]


def _padding(feed: Feed, size: int) -> None:
    """What follows data up to the next block. At the end it may lack: the next header will say so."""
    feed.read(-size % BLOCK)


def _passed(feed: Feed, size: int) -> None:
    while size > 0:
        data = feed.read(min(size, 1 << 20))
        if not data:
            raise cut_off()
        size -= len(data)
    _padding(feed, size)
