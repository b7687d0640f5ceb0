"""Read ISO 9660 with Rock Ridge.

Without Rock Ridge there are no owners, modes, links and original names; Joliet adds only names.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.iso.record import ASSOCIATED, BLOCK, CONTINUED, DIRECTORY, IsoRecord, RockRidge, make_run
from ltsp.filesystem.tree_reader import FilesystemLimits, FilesystemTreeReader, add_remedy, make_node, translate_damage
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun, ExtentStream, map_runs
from ltsp.tree.content import Stream
from ltsp.tree.name import decode
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

PLACE = 16 * BLOCK
MAGIC = b"CD001"
_PRIMARY, _END = 1, 255
_MOST_DESCRIPTORS = 64
_READ_AT_ONCE = 1 << 20
"""Bytes of a directory to read at a time."""
_AT_BLOCK, _OF_SERIAL = 1 << 64, 1 << 65
"""Flags that keep the numbers of directories, of files with several names, and of records apart."""
REMEDY = "copy it again, and compare its checksum with the publisher's"


def open(blocks: Blocks) -> Iso:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks.

    Raises FormatError if it is not ISO 9660 or is damaged, SourceError if it has no Rock Ridge.
    """
    with translate_damage("the ISO 9660 file system"):
        for number in range(_MOST_DESCRIPTORS):
            descriptor = blocks.read_at(PLACE + number * BLOCK, BLOCK)
            if len(descriptor) < BLOCK or descriptor[1:6] != MAGIC or descriptor[0] == _END:
                break
            if descriptor[0] == _PRIMARY:
                return _open_primary(blocks, descriptor)
        raise FormatError("not an ISO 9660 file system")


def _open_primary(blocks: Blocks, descriptor: bytes) -> Iso:
    if int.from_bytes(descriptor[128:130], "little") != BLOCK:
        raise SourceError("the block size of the ISO 9660 file system is not 2048 bytes")
    root = IsoRecord.parse(descriptor, 156, 0)
    first = read_exactly(blocks, root.extent * BLOCK, BLOCK, "the root directory")
    own = IsoRecord.parse(first, 0, root.extent * BLOCK)
    # The field that announces extensions comes first, after bytes that a boot loader may have left there.
    skipped = own.area[6] if own.area[:2] == b"SP" and own.area[4:6] == b"\xbe\xef" else 0
    if own.area[:2] != b"SP" or not RockRidge.parse(blocks, own.area, 0).mode:
        raise SourceError(
            "the ISO 9660 file system has no Rock Ridge: owners, modes and links are missing",
            "create it with xorriso or mkisofs -R",
        )
    return Iso(blocks, descriptor, root.extent, skipped)


@dataclass(frozen=True, slots=True, eq=False)
class _IsoContent:
    blocks: Blocks
    size: int
    runs: tuple[DataRun, ...]
    compressed: bool

    @property
    def stored_size(self) -> int:
        return self.size

    def open(self) -> AbstractContextManager[Stream]:
        if self.compressed:
            raise SourceError(
                "a file of the ISO 9660 file system is compressed (zisofs)", "mount it, and run ltsp image on the mount point"
            )
        return nullcontext(ExtentStream(map_runs(self.blocks, self.size, self.runs)))


@dataclass(frozen=True, slots=True)
class _IsoFile:
    """A file whose node has not been created yet."""

    record: IsoRecord
    more: RockRidge
    runs: tuple[DataRun, ...]


@dataclass(slots=True)
class Iso:
    blocks: Blocks
    descriptor: bytes
    """The primary volume descriptor."""
    _root: int
    _skipped: int
    _found: dict[int, _IsoFile] = field(default_factory=dict)
    _directories: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Block and size of directories whose entries have not been read yet."""
    _metadata: dict[Metadata, Metadata] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "iso9660"

    @property
    def label(self) -> str:
        return decode(self.descriptor[40:72].rstrip(b" \0"))

    @property
    def uuid(self) -> str:
        """The time of the last change, as in blkid(8)."""
        for at in (830, 813):
            digits = self.descriptor[at : at + 16]
            if digits.isdigit() and digits.strip(b"0"):
                text = digits.decode("ascii")
                return "-".join([text[:4], *(text[part : part + 2] for part in range(4, 16, 2))])
        return ""

    def tree(self, selection: Selection = select_all) -> Tree:
        with add_remedy(REMEDY):
            return FilesystemTreeReader(self, FilesystemLimits.of(self.blocks.size), selection).tree(
                _AT_BLOCK | self._root
            )

    def node(self, number: int) -> Node:
        if number & _AT_BLOCK:
            return self._read_directory(number)
        found = self._found.pop(number)
        record, more = found.record, found.more
        metadata = self._make_metadata(record, more)
        match stat.S_IFMT(more.mode):
            case stat.S_IFREG:
                size = sum(length for _, _, length in found.runs)
                for _, place, length in found.runs:
                    if length and place + length > self.blocks.size:
                        raise FormatError(f"its content at {place} extends beyond the end of the volume ({self.blocks.size} bytes)")
                return make_node(
                    more.mode, metadata, content=_IsoContent(self.blocks, size, found.runs, more.compressed)
                )
            case stat.S_IFDIR:
                raise FormatError("its record is damaged: it has the mode of a directory, but is not marked as one")
        return make_node(more.mode, metadata, target=more.target, device=more.device)

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:
        block, size = self._directories.pop(number)
        limits.count_directory_bytes(size)
        pending: list[IsoRecord] = []
        for record in self._read_records(block, size):
            if record.name in {b"\0", b"\1"} or record.flags & ASSOCIATED:
                continue
            pending.append(record)
            if record.flags & CONTINUED:
                continue
            yield from self._add_file(pending)
            pending = []

    def _add_file(self, records: list[IsoRecord]) -> Iterator[tuple[bytes, int]]:
        """Add a file from its records; files of more than 4 GiB have several."""
        record = records[-1]
        more = RockRidge.parse(self.blocks, record.area, self._skipped)
        if more.moved:
            return
        name = more.name or record.name.split(b";", 1)[0]
        if more.child or record.flags & DIRECTORY:
            yield name, _AT_BLOCK | (more.child or record.extent)
            return
        number = record.place
        if more.serial and more.links > 1:
            number = _OF_SERIAL | more.serial
        runs = []
        start = 0
        for part in records:
            runs.append(make_run(part, start))
            start += part.size
        self._found[number] = _IsoFile(record, more, tuple(runs))
        yield name, number

    def _read_directory(self, number: int) -> Node:
        """Read a directory from its own first record."""
        block = number & ~_AT_BLOCK
        data = read_exactly(self.blocks, block * BLOCK, BLOCK, "a directory")
        own = IsoRecord.parse(data, 0, block * BLOCK)
        if own.extent != block or own.name != b"\0" or own.size > self.blocks.size:
            raise FormatError(f"the directory at block {block} is damaged")
        more = RockRidge.parse(self.blocks, own.area, self._skipped)
        self._directories[number] = block, own.size
        return make_node(stat.S_IFDIR | more.mode & 0o7777, self._make_metadata(own, more))

    def _read_records(self, block: int, size: int) -> Iterator[IsoRecord]:
        """Records do not cross blocks; zeros fill the rest of a block."""
        start = block * BLOCK
        for passed in range(0, size, _READ_AT_ONCE):
            data = read_exactly(self.blocks, start + passed, min(_READ_AT_ONCE, size - passed), "a directory")
            at = 0
            while at < len(data):
                if not data[at]:
                    at = (at // BLOCK + 1) * BLOCK
                    continue
                yield IsoRecord.parse(data[: (at // BLOCK + 1) * BLOCK], at, start + passed + at)
                at += data[at]

    def _make_metadata(self, record: IsoRecord, more: RockRidge) -> Metadata:
        mtime = record.mtime if more.mtime is None else more.mtime
        new = Metadata(more.mode & 0o7777, more.uid, more.gid, mtime)
        return self._metadata.setdefault(new, new)
