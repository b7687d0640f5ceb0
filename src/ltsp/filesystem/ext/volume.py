"""Read ext2, ext3 and ext4: the volume, its inodes as nodes, and its directories.

The inner blocks of an indexed directory look like empty blocks, so reading all blocks in order finds each entry once.
Linux Documentation/filesystems/ext4/directory.rst
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.attributes import Xattrs, collect_attributes, sort_attributes
from ltsp.filesystem.ext import inode, journal
from ltsp.filesystem.ext.inode import ExtInode, LargeValue
from ltsp.filesystem.ext.mapping import ExtBlockMap
from ltsp.filesystem.ext.superblock import OFFSET, REMEDY, SIZE, ExtSuperblock, Incompatible
from ltsp.filesystem.tree_reader import (
    FilesystemLimits,
    FilesystemTreeReader,
    RecordReader,
    add_remedy,
    make_node,
    translate_damage,
)
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun, ExtentStream, map_runs, read_runs
from ltsp.tree.content import Bytes, Content, Stream
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

_ROOT = 2
_CACHED_BLOCKS = 64
"""Cached attribute blocks, which inodes share."""
_MAX_TARGET_SIZE = 4096
"""Bytes of a symbolic link's target."""
_READ_SIZE = 4 << 20
"""Bytes of a directory."""


def open(blocks: Blocks) -> Ext:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks, its journal replayed in memory.

    Raises FormatError if it is not ext or is damaged, SourceError if it is not supported.
    """
    with translate_damage("the ext4 file system"):
        superblock = ExtSuperblock.parse(blocks.read_at(OFFSET, SIZE))
        if superblock.block_count * superblock.block_size > blocks.size:
            raise FormatError(
                f"the {superblock.kind} file system is {superblock.block_count * superblock.block_size} bytes long, "
                f"but the volume only {blocks.size}",
                "copy it again: it is truncated, or the volume was shrunk without its file system",
            )
        dirty = superblock.has_feature(Incompatible.RECOVER)
        found = Ext(blocks, superblock, superblock.read_inode_tables(blocks, replayed=not dirty))
        if not dirty:
            return found
        replayed = found.replay_journal()
        superblock = ExtSuperblock.parse(replayed.read_at(OFFSET, SIZE))
        return Ext(replayed, superblock, superblock.read_inode_tables(replayed))


@dataclass(frozen=True, slots=True, eq=False)
class _ExtContent:
    """A regular file; its blocks are looked up when it is opened."""

    volume: Ext
    number: int
    flags: int
    map: bytes
    size: int
    stored_size: int
    seed: int | None

    def open(self) -> AbstractContextManager[Stream]:
        where = f"inode {self.number}"
        with translate_damage(where), add_remedy(REMEDY, where):
            runs = self.volume.runs(self.map, self.flags, self.size, self.seed)
        return nullcontext(ExtentStream(map_runs(self.volume.blocks, self.size, runs)))


@dataclass(slots=True)
class Ext:
    """An ext2, ext3 or ext4 file system."""

    blocks: Blocks
    superblock: ExtSuperblock
    _tables: list[int]
    """The first block of each group's inodes."""
    _attributes: dict[int, tuple[tuple[bytes, bytes], ...]] = field(default_factory=dict)
    _metadata: dict[tuple[int, int, int, int, Xattrs], Metadata] = field(default_factory=dict)
    _mapping: ExtBlockMap = field(init=False)
    _records: RecordReader = field(init=False)
    _directories: dict[int, ExtInode] = field(default_factory=dict)
    """Directories whose entries have not been read yet."""

    def __post_init__(self) -> None:
        found = self.superblock
        self._mapping = ExtBlockMap(self.blocks, found.block_size, found.first_data_block, found.block_count)
        self._records = RecordReader(self.blocks)

    @property
    def kind(self) -> str:
        return self.superblock.kind

    @property
    def label(self) -> str:
        return self.superblock.label

    @property
    def uuid(self) -> str:
        return self.superblock.uuid

    def tree(self, selection: Selection = select_all) -> Tree:
        with add_remedy(REMEDY):
            return FilesystemTreeReader(self, FilesystemLimits.of(self.blocks.size), selection).tree(_ROOT)

    def replay_journal(self) -> Blocks:
        """The volume with its journal replayed, as a mount would show it.

        Raises FormatError if the journal is damaged, SourceError if it is elsewhere or of an unknown kind.
        """
        found = self.superblock
        if not found.journal_inode:
            raise SourceError(
                f"the {found.kind} file system was not cleanly unmounted, and its journal is on another device", REMEDY
            )
        record = self._read_inode(found.journal_inode)
        runs = self.inode_runs(record)
        return journal.replay_journal(self.blocks, found.block_size, found.block_count, runs, record.size)

    def inode_runs(self, record: ExtInode) -> list[DataRun]:
        return self.runs(record.map, record.flags, record.size, record.seed)

    def runs(self, mapped: bytes, flags: int, size: int, seed: int | None) -> list[DataRun]:
        if flags & inode.EXTENTS:
            return self._mapping.read_extents(mapped, seed)
        return self._mapping.read_pointers(mapped, size)

    def node(self, number: int) -> Node:
        if number < self.superblock.first_inode and number != _ROOT:
            raise FormatError(f"inode {number} is reserved")
        record = self._read_inode(number)
        if not record.links or not record.mode:
            raise FormatError(f"inode {number} is not in use")
        attributes = self._read_attributes(record)
        rest = attributes.pop(inode.INLINE_DATA_XATTR, b"")
        xattrs = sort_attributes({name: value for name, value in attributes.items() if _is_visible(name)})
        key = (record.mode & 0o7777, record.uid, record.gid, record.mtime, xattrs)
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = self._metadata[key] = Metadata(*key)
        match stat.S_IFMT(record.mode):
            case stat.S_IFREG:
                return make_node(record.mode, metadata, content=self._make_content(number, record, rest))
            case stat.S_IFLNK:
                return make_node(record.mode, metadata, target=self._read_target(record, rest))
            case stat.S_IFDIR:
                self._directories[number] = record
            case stat.S_IFBLK | stat.S_IFCHR:
                return make_node(record.mode, metadata, device=_decode_device(record.map))
        return make_node(record.mode, metadata)

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:
        record = self._directories.pop(number)
        if record.flags & inode.ENCRYPTED:
            raise SourceError(
                "it is encrypted (fscrypt)", "unlock it on its own system and copy it from there, or exclude it"
            )
        found = self.superblock
        has_types = found.has_feature(Incompatible.FILETYPE)
        if record.flags & inode.INLINE_DATA:
            # The first word is the parent's number, in place of the entries `.` and `..`.
            for data in (record.map[4:], self._read_attributes(record).get(inode.INLINE_DATA_XATTR, b"")):
                yield from parse_entries(data, max(1, len(data)), has_types)
            return
        if record.size > self.blocks.size:
            raise FormatError(f"its size is invalid for a directory: {record.size} bytes")
        limits.count_directory_bytes(record.size)
        for start, place, length in self.inode_runs(record):
            end = min(length, record.size - start)
            for passed in range(0, end, _READ_SIZE):
                data = read_exactly(self.blocks, place + passed, min(_READ_SIZE, end - passed), "a directory")
                yield from parse_entries(data, found.block_size, has_types, record.seed)

    def _make_content(self, number: int, record: ExtInode, rest: bytes) -> Content:
        if record.flags & inode.ENCRYPTED:
            raise SourceError(
                "it is encrypted (fscrypt)", "unlock it on its own system and copy it from there, or exclude it"
            )
        if record.flags & inode.INLINE_DATA:
            data = (record.map + rest)[: record.size]
            if len(data) < record.size:
                raise FormatError(f"the inline data of inode {number} is truncated: {len(data)} of {record.size} bytes")
            return Bytes(data)
        if record.size >> 32 >= self.superblock.block_size:
            raise FormatError(f"inode {number} has an invalid size: {record.size} bytes")
        stored = min(record.size, record.stored)
        return _ExtContent(self, number, record.flags, record.map, record.size, stored, record.seed)

    def _read_target(self, record: ExtInode, rest: bytes) -> bytes:
        if record.flags & inode.ENCRYPTED:
            raise SourceError(
                "it is encrypted (fscrypt)", "unlock it on its own system and copy it from there, or exclude it"
            )
        if record.size > _MAX_TARGET_SIZE:
            raise FormatError(
                f"its target is too long for a symbolic link: {record.size} bytes (at most {_MAX_TARGET_SIZE})"
            )
        if record.flags & inode.INLINE_DATA:
            return (record.map + rest)[: record.size]
        if record.size < len(record.map):
            return record.map[: record.size]
        return read_runs(self.blocks, record.size, self.inode_runs(record))

    def _read_attributes(self, record: ExtInode) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        if record.attribute_block:
            found.update(self._read_xattr_block(record))
        if record.xattr_area:
            found.update(collect_attributes(record.ibody_xattrs(partial(self._read_large_value, record))))
        return found

    def _read_xattr_block(self, record: ExtInode) -> tuple[tuple[bytes, bytes], ...]:
        block = record.attribute_block
        known = self._attributes.get(block)
        if known is None:
            size = self.superblock.block_size
            data = read_exactly(self.blocks, block * size, size, "an attribute block")
            inode.check_xattr_block(data, block, self.superblock.seed)
            known = tuple(
                collect_attributes(inode.parse_xattr_block(data, partial(self._read_large_value, record))).items()
            )
            if len(self._attributes) >= _CACHED_BLOCKS:
                self._attributes.clear()
            self._attributes[block] = known
        return known

    def _read_large_value(self, parent: ExtInode, wanted: LargeValue) -> bytes:
        record = self._read_inode(wanted.inode)
        if not record.flags & inode.EA_INODE or record.size != wanted.size:
            raise FormatError(f"its attribute in inode {wanted.inode} is damaged")
        value = read_runs(self.blocks, wanted.size, self.inode_runs(record))
        wanted.check_value(value, record, parent, self.superblock.value_seed)
        return value

    def _read_inode(self, number: int) -> ExtInode:
        found = self.superblock
        if not 0 < number <= found.inode_count:
            raise FormatError(f"inode {number} is out of range: the file system has {found.inode_count} inodes")
        group, index = divmod(number - 1, found.inodes_per_group)
        place = self._tables[group] * found.block_size + index * found.inode_size
        raw = self._records.read(place, found.inode_size, f"inode {number}")
        return ExtInode.parse(raw, found.block_size, number, found.seed)


def _is_visible(name: bytes) -> bool:
    return not name.startswith(b"system.") or name.startswith(b"system.posix_acl_")


def _decode_device(words: bytes) -> tuple[int, int]:
    """Major and minor number, in the old or the new encoding. Linux include/linux/kdev_t.h"""
    old = int.from_bytes(words[:2], "little")
    if any(words[:4]):
        return old >> 8, old & 0xFF
    new = int.from_bytes(words[4:8], "little")
    return (new & 0xFFF00) >> 8, (new & 0xFF) | (new >> 12 & 0xFFF00)


_ENTRY = struct.Struct("<IHBB")
_TAIL, _TAIL_MARK = 12, b"\0\0\0\0\x0c\0\0\xde"
"""The checksum at the end of a block of entries, in the form of an unused entry."""
_OWN = frozenset({b".", b".."})


def parse_entries(
    data: bytes, block_size: int, has_types: bool, seed: int | None = None
) -> Iterator[tuple[bytes, int]]:
    """Names and inode numbers in blocks of a directory, except itself and its parent.

    `has_types` says whether the byte after the name's length is a file type; otherwise it belongs to the length.
    `seed` is that of the checksums; None without checksums. Raises FormatError.
    """
    unpack = _ENTRY.unpack_from
    for block in range(0, len(data), block_size):
        at, end = block, min(block + block_size, len(data))
        while at < end:
            inode, length, size, more = unpack(data, at)
            if length in {0, 0xFFFF}:
                length = block_size  # blocks of 64 KiB
            elif block_size > 65535:
                length = length & 0xFFFC | (length & 3) << 16
            if not has_types:
                size |= more << 8
            if length < 8 or length & 3 or at + length > end or size + 8 > length:
                raise FormatError(f"its entry at offset {at} is damaged")
            if seed is not None and at == end - _TAIL and data[at : at + 8] == _TAIL_MARK:
                if not checksum.matches_ext4(data[block:at], int.from_bytes(data[at + 8 : end], "little"), seed):
                    raise FormatError(f"its block at offset {block} is damaged: wrong checksum")
            elif inode:
                name = data[at + 8 : at + 8 + size]
                if name not in _OWN:
                    yield name, inode
            at += length
