"""ext2, ext3 and ext4: from a volume to a tree."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.attributes import Xattrs, gathered, in_order
from ltsp.filesystem.blocks import Records, damage_told
from ltsp.filesystem.ext import directory, inode, journal
from ltsp.filesystem.ext.inode import Inode, LargeValue
from ltsp.filesystem.ext.mapping import Mapping
from ltsp.filesystem.ext.superblock import PLACE, REMEDY, SIZE, Incompatible, Superblock
from ltsp.filesystem.runs import Run, RunStream, read_whole
from ltsp.filesystem.special_nodes import made
from ltsp.filesystem.tree_reader import Allowance, Growth
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.tree.content import Bytes, Content, Stream
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, everything
from ltsp.tree.tree import Tree

_ROOT = 2
_BLOCKS_KEPT = 64
"""Blocks of attributes, which inodes share."""
_LONGEST_TARGET = 4096
"""Bytes of a symbolic link."""
_READ_AT_ONCE = 4 << 20
"""Bytes of a directory."""


def open(blocks: Blocks) -> Ext:  # noqa: A001 - what every kind of file system has under this name
    """The file system in these blocks, its journal replayed in memory.

    Raises FormatError where it is none or is damaged, SourceError where it cannot be read here.
    """
    with damage_told("the ext4 file system"):
        superblock = Superblock.parse(blocks.read_at(PLACE, SIZE))
        if superblock.block_count * superblock.block_size > blocks.size:
            raise FormatError(
                f"the {superblock.kind} file system has {superblock.block_count * superblock.block_size} bytes, "
                f"the volume only {blocks.size}",
                "copy it again: it was cut off, or the volume was made smaller without its file system",
            )
        dirty = superblock.has(Incompatible.RECOVER)
        found = Ext(blocks, superblock, superblock.inode_tables(blocks, replayed=not dirty))
        if not dirty:
            return found
        replayed = found.replayed()
        superblock = Superblock.parse(replayed.read_at(PLACE, SIZE))
        return Ext(replayed, superblock, superblock.inode_tables(replayed))


@dataclass(frozen=True, slots=True, eq=False)
class _ExtContent:
    """A regular file, whose blocks are looked up when it is opened."""

    volume: Ext
    number: int
    flags: int
    map: bytes
    size: int
    stored: int
    seed: int | None

    def open(self) -> AbstractContextManager[Stream]:
        with damage_told(f"inode {self.number}"):
            try:
                runs = self.volume.runs(self.map, self.flags, self.size, self.seed)
            except FormatError as error:
                raise FormatError(f"inode {self.number}: {error.message}", REMEDY) from error
        return nullcontext(RunStream(self.volume.blocks, self.size, runs))


@dataclass(slots=True)
class Ext:
    """A file system of this family."""

    blocks: Blocks
    superblock: Superblock
    _tables: list[int]
    """The first block of each group's inodes."""
    _attributes: dict[int, tuple[tuple[bytes, bytes], ...]] = field(default_factory=dict)
    _metadata: dict[tuple[int, int, int, int, Xattrs], Metadata] = field(default_factory=dict)
    _mapping: Mapping = field(init=False)
    _records: Records = field(init=False)
    _directories: dict[int, Inode] = field(default_factory=dict)
    """Directories whose entries are still to be read."""

    def __post_init__(self) -> None:
        found = self.superblock
        self._mapping = Mapping(self.blocks, found.block_size, found.first_data_block, found.block_count)
        self._records = Records(self.blocks)

    @property
    def kind(self) -> str:
        return self.superblock.kind

    @property
    def label(self) -> str:
        return self.superblock.label

    @property
    def uuid(self) -> str:
        return self.superblock.uuid

    def tree(self, selection: Selection = everything) -> Tree:
        try:
            return Growth(self, Allowance.of(self.blocks.size), selection).tree(_ROOT)
        except FormatError as error:
            raise FormatError(error.message, error.hint or REMEDY) from error

    def replayed(self) -> Blocks:
        """The volume after its journal: what a mount would show, never what was before.

        Raises FormatError where that is damaged, SourceError where it is elsewhere or of an unknown kind.
        """
        found = self.superblock
        if not found.journal_inode:
            raise SourceError(
                f"the {found.kind} file system was not unmounted, and its journal is on another device", REMEDY
            )
        record = self._read(found.journal_inode)
        runs = self.runs_of(record)
        return journal.replayed(self.blocks, found.block_size, found.block_count, runs, record.size)

    def runs_of(self, record: Inode) -> list[Run]:
        return self.runs(record.map, record.flags, record.size, record.seed)

    def runs(self, mapped: bytes, flags: int, size: int, seed: int | None) -> list[Run]:
        if flags & inode.EXTENTS:
            return self._mapping.extents(mapped, seed)
        return self._mapping.pointers(mapped, size)

    def node(self, number: int) -> Node:
        if number < self.superblock.first_inode and number != _ROOT:
            raise FormatError(f"inode {number} is reserved")
        record = self._read(number)
        if not record.links or not record.mode:
            raise FormatError(f"inode {number} is not in use")
        attributes = self._all_attributes(record)
        rest = attributes.pop(inode.INLINE_REST, b"")
        xattrs = in_order({name: value for name, value in attributes.items() if _is_shown(name)})
        key = (record.mode & 0o7777, record.uid, record.gid, record.mtime, xattrs)
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = self._metadata[key] = Metadata(*key)
        match stat.S_IFMT(record.mode):
            case stat.S_IFREG:
                return made(record.mode, metadata, content=self._content(number, record, rest))
            case stat.S_IFLNK:
                return made(record.mode, metadata, target=self._target(record, rest))
            case stat.S_IFDIR:
                self._directories[number] = record
            case stat.S_IFBLK | stat.S_IFCHR:
                return made(record.mode, metadata, device=_device(record.map))
        return made(record.mode, metadata)

    def entries(self, number: int, allowance: Allowance) -> Iterator[tuple[bytes, int]]:
        record = self._directories.pop(number)
        if record.flags & inode.ENCRYPTED:
            raise SourceError("it is encrypted (fscrypt)", "unlock and copy it on its own system, or exclude it")
        found = self.superblock
        typed = found.has(Incompatible.FILETYPE)
        if record.flags & inode.INLINE:
            # The first word is the parent's number, which stands for both own entries.
            for data in (record.map[4:], self._all_attributes(record).get(inode.INLINE_REST, b"")):
                yield from directory.entries(data, max(1, len(data)), typed)
            return
        if record.size > self.blocks.size:
            raise FormatError(f"it is a directory of {record.size} bytes")
        allowance.read(record.size)
        for start, place, length in self.runs_of(record):
            end = min(length, record.size - start)
            for passed in range(0, end, _READ_AT_ONCE):
                data = read_exactly(self.blocks, place + passed, min(_READ_AT_ONCE, end - passed), "a directory")
                yield from directory.entries(data, found.block_size, typed, record.seed)

    def _content(self, number: int, record: Inode, rest: bytes) -> Content:
        if record.flags & inode.ENCRYPTED:
            raise SourceError("it is encrypted (fscrypt)", "unlock and copy it on its own system, or exclude it")
        if record.flags & inode.INLINE:
            data = (record.map + rest)[: record.size]
            if len(data) < record.size:
                raise FormatError(f"inode {number} holds {len(data)} bytes of {record.size}")
            return Bytes(data)
        if record.size >> 32 >= self.superblock.block_size:
            raise FormatError(f"inode {number} is a file of {record.size} bytes")
        stored = min(record.size, record.stored)
        return _ExtContent(self, number, record.flags, record.map, record.size, stored, record.seed)

    def _target(self, record: Inode, rest: bytes) -> bytes:
        if record.flags & inode.ENCRYPTED:
            raise SourceError("it is encrypted (fscrypt)", "unlock and copy it on its own system, or exclude it")
        if record.size > _LONGEST_TARGET:
            raise FormatError(f"it is a symbolic link to a path of {record.size} bytes")
        if record.flags & inode.INLINE:
            return (record.map + rest)[: record.size]
        if record.size < len(record.map):
            return record.map[: record.size]
        return read_whole(self.blocks, record.size, self.runs_of(record))

    def _all_attributes(self, record: Inode) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        if record.attributes:
            found.update(self._block_of_attributes(record))
        if record.rest:
            found.update(gathered(record.in_body(partial(self._large_value, record))))
        return found

    def _block_of_attributes(self, record: Inode) -> tuple[tuple[bytes, bytes], ...]:
        block = record.attributes
        known = self._attributes.get(block)
        if known is None:
            size = self.superblock.block_size
            data = read_exactly(self.blocks, block * size, size, "a block of attributes")
            inode.check_block(data, block, self.superblock.seed)
            known = tuple(gathered(inode.in_block(data, partial(self._large_value, record))).items())
            if len(self._attributes) >= _BLOCKS_KEPT:
                self._attributes.clear()
            self._attributes[block] = known
        return known

    def _large_value(self, parent: Inode, wanted: LargeValue) -> bytes:
        record = self._read(wanted.inode)
        if not record.flags & inode.EA_INODE or record.size != wanted.size:
            raise FormatError(f"its attribute in inode {wanted.inode} is damaged")
        value = read_whole(self.blocks, wanted.size, self.runs_of(record))
        wanted.see_that_it_is(value, record, parent, self.superblock.value_seed)
        return value

    def _read(self, number: int) -> Inode:
        found = self.superblock
        if not 0 < number <= found.inode_count:
            raise FormatError(f"inode {number} of {found.inode_count} is wanted")
        group, index = divmod(number - 1, found.inodes_per_group)
        place = self._tables[group] * found.block_size + index * found.inode_size
        raw = self._records.read(place, found.inode_size, f"inode {number}")
        return Inode.parse(raw, found.block_size, number, found.seed)


def _is_shown(name: bytes) -> bool:
    return not name.startswith(b"system.") or name.startswith(b"system.posix_acl_")


def _device(words: bytes) -> tuple[int, int]:
    """Major and minor number: of before Linux 2.6, or of now. Linux include/linux/kdev_t.h"""
    old = int.from_bytes(words[:2], "little")
    if any(words[:4]):
        return old >> 8, old & 0xFF
    new = int.from_bytes(words[4:8], "little")
    return (new & 0xFFF00) >> 8, (new & 0xFF) | (new >> 12 & 0xFFF00)
