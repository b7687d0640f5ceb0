"""Read ISO 9660 with Rock Ridge.

Without Rock Ridge there are no owners, modes, links and original names; Joliet adds only names.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.iso.record import ASSOCIATED, BLOCK_SIZE, CONTINUED, DIRECTORY, IsoRecord, RockRidge, make_run
from ltsp.filesystem.tree_reader import FilesystemLimits, FilesystemTreeReader, add_remedy, make_node, translate_damage
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun, ExtentStream, map_runs
from ltsp.tree.content import Stream
from ltsp.tree.name import decode
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

OFFSET = 16 * BLOCK_SIZE
MAGIC = b"CD001"
_PRIMARY, _TERMINATOR = 1, 255
_MAX_DESCRIPTORS = 64
_READ_SIZE = 1 << 20
"""Bytes of a directory to read at a time."""
_DIRECTORY_FLAG, _SERIAL_FLAG = 1 << 64, 1 << 65
"""Flags that keep the numbers of directories, of files with several names, and of records apart."""
REMEDY = "copy it again, and compare its checksum with the publisher's"


def open(blocks: Blocks) -> Iso:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks.

    Raises FormatError if it is not ISO 9660 or is damaged, SourceError if it has no Rock Ridge.
    """
    with translate_damage("the ISO 9660 file system"):
        for number in range(_MAX_DESCRIPTORS):
            descriptor = blocks.read_at(OFFSET + number * BLOCK_SIZE, BLOCK_SIZE)
            if len(descriptor) < BLOCK_SIZE or descriptor[1:6] != MAGIC or descriptor[0] == _TERMINATOR:
                break
            if descriptor[0] == _PRIMARY:
                return _open_primary(blocks, descriptor)
        raise FormatError("not an ISO 9660 file system")


def _open_primary(blocks: Blocks, descriptor: bytes) -> Iso:
    if int.from_bytes(descriptor[128:130], "little") != BLOCK_SIZE:
        raise SourceError("the block size of the ISO 9660 file system is not 2048 bytes")
    root = IsoRecord.parse(descriptor, 156, 0)
    first = read_exactly(blocks, root.first_block * BLOCK_SIZE, BLOCK_SIZE, "the root directory")
    dot_record = IsoRecord.parse(first, 0, root.first_block * BLOCK_SIZE)
    # The field that announces extensions comes first, after bytes that a boot loader may have left there.
    skip_size = (
        dot_record.system_use[6]
        if dot_record.system_use[:2] == b"SP" and dot_record.system_use[4:6] == b"\xbe\xef"
        else 0
    )
    if dot_record.system_use[:2] != b"SP" or not RockRidge.parse(blocks, dot_record.system_use, 0).mode:
        raise SourceError(
            "the ISO 9660 file system has no Rock Ridge: owners, modes and links are missing",
            "create it with xorriso or mkisofs -R",
        )
    return Iso(blocks, descriptor, root.first_block, skip_size)


@dataclass(frozen=True, slots=True, eq=False)
class _IsoContent:
    blocks: Blocks
    size: int
    runs: tuple[DataRun, ...]
    is_compressed: bool

    @property
    def stored_size(self) -> int:
        return self.size

    def open(self) -> AbstractContextManager[Stream]:
        if self.is_compressed:
            raise SourceError(
                "a file of the ISO 9660 file system is compressed (zisofs)",
                "mount it, and run ltsp image on the mount point",
            )
        return nullcontext(ExtentStream(map_runs(self.blocks, self.size, self.runs)))


@dataclass(frozen=True, slots=True)
class _IsoFile:
    """A file whose node has not been created yet."""

    record: IsoRecord
    rock_ridge: RockRidge
    runs: tuple[DataRun, ...]


@dataclass(slots=True)
class Iso:
    blocks: Blocks
    descriptor: bytes
    """The primary volume descriptor."""
    _root: int
    _skip_size: int
    _pending_files: dict[int, _IsoFile] = field(default_factory=dict)
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
                _DIRECTORY_FLAG | self._root
            )

    def node(self, number: int) -> Node:
        if number & _DIRECTORY_FLAG:
            return self._read_directory(number)
        found = self._pending_files.pop(number)
        record, rock_ridge = found.record, found.rock_ridge
        metadata = self._make_metadata(record, rock_ridge)
        match stat.S_IFMT(rock_ridge.mode):
            case stat.S_IFREG:
                size = sum(length for _, _, length in found.runs)
                for _, place, length in found.runs:
                    if length and place + length > self.blocks.size:
                        raise FormatError(
                            f"its content at {place} extends beyond the end of the volume ({self.blocks.size} bytes)"
                        )
                return make_node(
                    rock_ridge.mode,
                    metadata,
                    content=_IsoContent(self.blocks, size, found.runs, rock_ridge.is_compressed),
                )
            case stat.S_IFDIR:
                raise FormatError("its record is damaged: it has the mode of a directory, but is not marked as one")
        return make_node(rock_ridge.mode, metadata, target=rock_ridge.target, device=rock_ridge.device)

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
        rock_ridge = RockRidge.parse(self.blocks, record.system_use, self._skip_size)
        if rock_ridge.is_relocated:
            return
        name = rock_ridge.name or record.name.split(b";", 1)[0]
        if rock_ridge.relocated_block or record.flags & DIRECTORY:
            yield name, _DIRECTORY_FLAG | (rock_ridge.relocated_block or record.first_block)
            return
        number = record.volume_offset
        if rock_ridge.serial and rock_ridge.links > 1:
            number = _SERIAL_FLAG | rock_ridge.serial
        runs = []
        start = 0
        for part in records:
            runs.append(make_run(part, start))
            start += part.size
        self._pending_files[number] = _IsoFile(record, rock_ridge, tuple(runs))
        yield name, number

    def _read_directory(self, number: int) -> Node:
        """Read a directory from its own first record."""
        block = number & ~_DIRECTORY_FLAG
        data = read_exactly(self.blocks, block * BLOCK_SIZE, BLOCK_SIZE, "a directory")
        dot_record = IsoRecord.parse(data, 0, block * BLOCK_SIZE)
        if dot_record.first_block != block or dot_record.name != b"\0" or dot_record.size > self.blocks.size:
            raise FormatError(f"the directory at block {block} is damaged")
        rock_ridge = RockRidge.parse(self.blocks, dot_record.system_use, self._skip_size)
        self._directories[number] = block, dot_record.size
        return make_node(stat.S_IFDIR | rock_ridge.mode & 0o7777, self._make_metadata(dot_record, rock_ridge))

    def _read_records(self, block: int, size: int) -> Iterator[IsoRecord]:
        """Records do not cross blocks; zeros fill the rest of a block."""
        start = block * BLOCK_SIZE
        for passed in range(0, size, _READ_SIZE):
            data = read_exactly(self.blocks, start + passed, min(_READ_SIZE, size - passed), "a directory")
            at = 0
            while at < len(data):
                if not data[at]:
                    at = (at // BLOCK_SIZE + 1) * BLOCK_SIZE
                    continue
                yield IsoRecord.parse(data[: (at // BLOCK_SIZE + 1) * BLOCK_SIZE], at, start + passed + at)
                at += data[at]

    def _make_metadata(self, record: IsoRecord, rock_ridge: RockRidge) -> Metadata:
        mtime = record.mtime if rock_ridge.mtime is None else rock_ridge.mtime
        new = Metadata(rock_ridge.mode & 0o7777, rock_ridge.uid, rock_ridge.gid, mtime)
        return self._metadata.setdefault(new, new)
