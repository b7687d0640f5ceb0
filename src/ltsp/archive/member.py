"""Read the members of a tar archive in any dialect: v7, ustar, pax, GNU, star.

The contents of files are extents of the archive. A member can itself be read as an archive: a layer in a tar of layers.

Python's tarfile is not safe enough for hostile input: an extended header of 128 KiB of digits takes it 18 s (Python
3.11.7), a negative size hides the members that follow, times are floating point numbers, which may round up to the next
second, and the value of an attribute can be taken for a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ltsp.archive import pax, sparse_map
from ltsp.archive.header import BLOCK, TarHeader
from ltsp.archive.input import ArchiveInput, ArchiveUsage, truncated_error
from ltsp.archive.pax import PaxRecord
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import BlockRange, DataRun, ExtentStream, Map, map_runs
from ltsp.tree.content import Stream
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Metadata

_MAX_EXTENSION_SIZE: Final = 1 << 20
"""Bytes of an extended header or a long name. Linux keeps 64 KiB of attributes for a file on most file systems."""
_MAX_ID: Final = (1 << 32) - 2
"""The last number means `leave it` to chown(2)."""
_MAX_EXTENSIONS: Final = 8
"""Extended headers of one member: a name, a link, a pax header; twice each is more than any writer creates."""
_DISK_HEAD_SIZE: Final = 68 << 10
"""Bytes that would show a file system: zeros at the start alone do not mean an empty archive."""
_MAX_GLOBAL_RECORDS: Final = 64
"""Records of global headers, which are searched for each member."""
_MEMBER_MEMORY: Final = 400
"""Approximate bytes of a member in a tree."""

_RUN_MEMORY: Final = 170
"""Approximate bytes of a run of data in a sparse file."""


class MemberKind(Enum):
    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "FIFO"


_KINDS: Final[Mapping[bytes, MemberKind]] = {
    b"0": MemberKind.FILE,
    b"\0": MemberKind.FILE,
    b"7": MemberKind.FILE,
    b"S": MemberKind.FILE,
    b"1": MemberKind.HARD_LINK,
    b"2": MemberKind.SYMLINK,
    b"3": MemberKind.CHARACTER,
    b"4": MemberKind.BLOCK,
    b"5": MemberKind.DIRECTORY,
    b"D": MemberKind.DIRECTORY,
    b"6": MemberKind.FIFO,
}
"""`7` is a contiguous file, `S` one with holes, `D` a directory with the list of its entries (GNU, incremental)."""
_UNSUPPORTED: Final[Mapping[bytes, str]] = {b"M": "a part of a multi-volume archive", b"N": "an old long name"}


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    kind: MemberKind
    path: bytes
    """The stored path, not to be trusted: it may be absolute or contain `..`."""
    metadata: Metadata
    target: bytes = b""
    """The stored target of a link."""
    content: ArchivedContent | None = None
    """Of a file."""
    major: int = 0
    minor: int = 0


@dataclass(slots=True)
class _Extensions:
    """The extended headers before a member's own header."""

    records: Sequence[PaxRecord] = ()
    path: bytes | None = None
    target: bytes | None = None
    count: int = 0


def read_members(source: ArchiveInput, usage: ArchiveUsage, *, must_end: bool = True) -> Iterator[ArchiveMember]:
    """Each member, in order.

    With `must_end`, an archive without the final zeros counts as truncated, as nothing else proves it complete. Raises
    FormatError, and LtspError if there is not enough space for data.
    """
    global_records: dict[bytes, bytes] = {}
    extensions = _Extensions()
    while True:
        place = source.at
        block = source.read(BLOCK)
        header = TarHeader.parse(block, place) if len(block) == BLOCK else None
        if header is None:
            if not (place or block) and must_end:
                raise FormatError("is empty", "check whether the program that writes it failed")
            if extensions.count or (block and len(block) < BLOCK) or (not block and must_end):
                raise truncated_error()
            if not place and block and any(source.read(_DISK_HEAD_SIZE - BLOCK)):
                raise FormatError("is not a tar archive: it starts with zeros, but is not empty")
            source.drain()
            return
        if header.flag in b"xXgLK":
            extensions.count += 1
            if extensions.count > _MAX_EXTENSIONS:
                raise FormatError(f"is damaged: a member at {place} has {extensions.count} extended headers")
            _read_extension(extensions, global_records, header, source, usage)
        elif header.flag in b"AV":
            _skip_data(source, header.size)  # access control lists of Solaris, the label of a tape
        else:
            yield _read_member(header, block, extensions, global_records, source, usage)
            extensions = _Extensions()


def _read_extension(
    extensions: _Extensions,
    global_records: dict[bytes, bytes],
    header: TarHeader,
    source: ArchiveInput,
    usage: ArchiveUsage,
) -> None:
    if header.size > _MAX_EXTENSION_SIZE:
        raise FormatError(f"is damaged: an extended header of {header.size} bytes is too large")
    data = _read_padded(source, header.size)
    usage.take_memory(len(data))
    match header.flag:
        case b"L":
            extensions.path = data.partition(b"\0")[0]
        case b"K":
            extensions.target = data.partition(b"\0")[0]
        case b"g":
            latest = pax.merge_records(pax.parse_records(data), global_records)
            if len(latest) > _MAX_GLOBAL_RECORDS:
                raise FormatError(f"is damaged: too many global records: {len(latest)}")
            global_records.clear()
            global_records.update(latest)
        case _:
            extensions.records = pax.parse_records(data)


def _read_member(
    header: TarHeader,
    block: bytes,
    extensions: _Extensions,
    global_records: Mapping[bytes, bytes],
    source: ArchiveInput,
    usage: ArchiveUsage,
) -> ArchiveMember:
    values = pax.merge_records(extensions.records, global_records) if extensions.records or global_records else {}
    path = values.get(b"GNU.sparse.name") or values.get(b"path") or extensions.path or header.path
    kind = _KINDS.get(header.flag)
    if kind is None:
        what = _UNSUPPORTED.get(header.flag, f"a member of type {decode(header.flag)!a}")
        raise FormatError(f"has {what}, which is not supported: {printable(decode(path))}")
    if header.flag in b"0\0" and path.endswith(b"/"):
        kind = MemberKind.DIRECTORY  # as Unix v7 wrote them
    usage.take_memory(_MEMBER_MEMORY + len(path))
    size = pax.get_number(values, b"size", header.size)
    content = None
    if kind is MemberKind.FILE:
        content = _read_content(header, block, extensions.records, values, size, source, usage)
    elif header.flag == b"D":
        _skip_data(source, size)
    target = values.get(b"linkpath") or extensions.target or header.target
    metadata = _make_metadata(header, values)
    major = pax.get_number(values, b"SCHILY.devmajor", header.major)
    minor = pax.get_number(values, b"SCHILY.devminor", header.minor)
    return ArchiveMember(kind, path, metadata, target, content, major, minor)


def _read_content(
    header: TarHeader,
    block: bytes,
    records: Sequence[PaxRecord],
    values: Mapping[bytes, bytes],
    size: int,
    source: ArchiveInput,
    usage: ArchiveUsage,
) -> ArchivedContent:
    def read(wanted: int) -> bytes:
        data = source.read(wanted)
        if len(data) < wanted:
            raise truncated_error()
        usage.take_memory(wanted)
        return data

    found = None
    map_size = 0
    if header.flag == b"S":
        found = sparse_map.parse_gnu_map(block, read)
    elif values:
        pax_map = sparse_map.parse_pax_map(records, values, read)
        if pax_map is not None:
            found, map_size = pax_map
    if map_size > size:
        raise FormatError("is damaged: the map of a sparse file is larger than its data")
    usage.take_memory(_RUN_MEMORY * len(found.pairs) if found else 0)
    base, place = source.keep(size - map_size)
    _skip_padding(source, size)
    if found is None:
        return ArchivedContent(base, place, size)
    return ArchivedContent(base, place, found.size, found.list_runs(size - map_size))


def _make_metadata(header: TarHeader, values: Mapping[bytes, bytes]) -> Metadata:
    uid, gid = pax.get_number(values, b"uid", header.uid), pax.get_number(values, b"gid", header.gid)
    if max(uid, gid) > _MAX_ID:
        raise FormatError(f"is damaged: {max(uid, gid)} is not a valid user or group id")
    return Metadata(
        header.mode & 0o7777,
        uid,
        gid,
        pax.get_mtime(values, header.mtime),
        pax.get_xattrs(values) if values else (),
    )


def _read_padded(source: ArchiveInput, size: int) -> bytes:
    """The data of an extended header, which is padded to whole blocks."""
    data = source.read(size + -size % BLOCK)
    if len(data) < size:
        raise truncated_error()
    return data[:size]


def _skip_padding(source: ArchiveInput, size: int) -> None:
    """Skip the padding after data. It may be missing at the end: reading the next header detects that."""
    source.read(-size % BLOCK)


def _skip_data(source: ArchiveInput, size: int) -> None:
    while size > 0:
        data = source.read(min(size, 1 << 20))
        if not data:
            raise truncated_error()
        size -= len(data)
    _skip_padding(source, size)


@dataclass(frozen=True, slots=True, eq=False)
class ArchivedContent:
    """A regular file; its map is made when it is opened, as most files are contiguous and never read at an offset."""

    base: Blocks
    place: int
    """Offset of the stored bytes in the base."""
    size: int
    runs: tuple[DataRun, ...] | None = None
    """The runs of a file with holes, in the stored bytes."""

    @property
    def stored_size(self) -> int:
        return self.size if self.runs is None else sum(length for _, _, length in self.runs)

    def map(self) -> Map:
        """The file, for reading at any offset."""
        if self.runs is None:
            return BlockRange(self.base, self.place, self.size)
        return map_runs(BlockRange(self.base, self.place, self.stored_size), self.size, self.runs)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(ExtentStream(self.map(), "the archive"))
