"""Read xfs, versions 4 and 5."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.attributes import Xattrs, sort_attributes
from ltsp.filesystem.tree_reader import (
    FilesystemLimits,
    FilesystemTreeReader,
    RecordReader,
    add_remedy,
    make_node,
    translate_damage,
)
from ltsp.filesystem.xfs import directory, log
from ltsp.filesystem.xfs.attributes import read_attributes
from ltsp.filesystem.xfs.inode import Fork, ForkFormat, XfsInode, runs
from ltsp.filesystem.xfs.superblock import MAGIC, REMEDY, SIZE, XfsSuperblock
from ltsp.storage import checksum
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import ExtentStream, map_runs
from ltsp.tree.content import Bytes, Content, Stream
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

_MAX_TARGET_SIZE = 1024
"""Bytes of a symbolic link's target. Linux XFS_SYMLINK_MAXLEN"""
_TARGET_HEADER_SIZE = 56
"""Bytes of the header of each extent of a link in version 5."""
_TARGET_CHECKSUM_OFFSET = 12
_MAX_FILE_SIZE = 1 << 63


def open(blocks: Blocks) -> Xfs:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks.

    Raises FormatError if it is not xfs or is damaged, SourceError if its log is dirty or it has unknown features.
    """
    with translate_damage("the xfs file system"):
        raw = blocks.read_at(0, SIZE)
        sector = int.from_bytes(raw[102:104], "big") if raw[:4] == MAGIC else 0
        if sector & (sector - 1) or not (512 <= sector <= 32768 or raw[:4] != MAGIC):
            raise FormatError("the superblock of the xfs file system is damaged", REMEDY)
        superblock = XfsSuperblock.parse(raw, blocks.read_at(0, sector))
        size = superblock.block_count * superblock.block_size
        if size > blocks.size:
            raise FormatError(
                f"the xfs file system is {size} bytes long, but the volume only {blocks.size}",
                "copy it again: it is truncated",
            )
        log.check_clean(blocks, superblock)
        return Xfs(blocks, superblock)


@dataclass(frozen=True, slots=True, eq=False)
class _XfsContent:
    """A regular file; its extents are looked up when it is opened."""

    volume: Xfs
    number: int
    fork: Fork
    size: int
    stored_size: int

    def open(self) -> AbstractContextManager[Stream]:
        volume = self.volume
        where = f"inode {self.number}"
        with translate_damage(where), add_remedy(REMEDY, where):
            found = runs(volume.blocks, volume.superblock, self.fork)
        return nullcontext(ExtentStream(map_runs(volume.blocks, self.size, found)))


@dataclass(slots=True)
class Xfs:
    blocks: Blocks
    superblock: XfsSuperblock
    _records: RecordReader = field(init=False)
    _metadata: dict[tuple[int, int, int, int, Xattrs], Metadata] = field(default_factory=dict)
    _directories: dict[int, XfsInode] = field(default_factory=dict)
    """Directories whose entries have not been read yet."""

    def __post_init__(self) -> None:
        self._records = RecordReader(self.blocks)

    @property
    def kind(self) -> str:
        return "xfs"

    @property
    def label(self) -> str:
        return self.superblock.label

    @property
    def uuid(self) -> str:
        return self.superblock.uuid

    def tree(self, selection: Selection = select_all) -> Tree:
        with add_remedy(REMEDY):
            return FilesystemTreeReader(self, FilesystemLimits.of(self.blocks.size), selection).tree(
                self.superblock.root
            )

    def node(self, number: int) -> Node:
        found = self.superblock
        raw = self._records.read(found.locate_inode(number), found.inode_size, f"inode {number}")
        record = XfsInode.parse(raw, number)
        if not record.links or not record.mode:
            raise FormatError(f"inode {number} is not in use")
        xattrs: Xattrs = ()
        if record.attributes is not None:
            xattrs = sort_attributes(read_attributes(self.blocks, found, record.attributes))
        key = (record.mode & 0o7777, record.uid, record.gid, record.mtime, xattrs)
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = self._metadata[key] = Metadata(*key)
        match stat.S_IFMT(record.mode):
            case stat.S_IFREG:
                return make_node(record.mode, metadata, content=self._make_content(record))
            case stat.S_IFLNK:
                return make_node(record.mode, metadata, target=self._read_target(record))
            case stat.S_IFDIR:
                self._directories[number] = record
            case stat.S_IFBLK | stat.S_IFCHR:
                device = int.from_bytes(record.content.data[:4], "big")
                return make_node(record.mode, metadata, device=(device >> 18 & 0x3FFF, device & 0x3FFFF))
        return make_node(record.mode, metadata)

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:
        record, found = self._directories.pop(number), self.superblock
        if record.content.format == ForkFormat.LOCAL:
            return directory.parse_shortform_entries(record.content.data[: record.size], found.has_file_types)
        mapped = runs(self.blocks, found, record.content)
        # Files may share extents, directories may not.
        limits.count_directory_bytes(sum(length for _, _, length in mapped))
        return directory.read_entries(self.blocks, mapped, found.directory_block_size, found.has_file_types)

    def _make_content(self, record: XfsInode) -> Content:
        if record.is_realtime and record.size:
            raise SourceError(
                f"inode {record.number} is on the realtime device of the xfs file system",
                "mount it with that device, and run ltsp image on the mount point",
            )
        if record.size >= _MAX_FILE_SIZE:
            raise FormatError(f"inode {record.number} has an invalid size: {record.size} bytes")
        if record.content.format == ForkFormat.LOCAL:
            return Bytes(record.content.data[: record.size])
        stored = min(record.size, record.blocks * self.superblock.block_size)
        return _XfsContent(self, record.number, record.content, record.size, stored)

    def _read_target(self, record: XfsInode) -> bytes:
        if record.size > _MAX_TARGET_SIZE:
            raise FormatError(
                f"its target is too long for a symbolic link: {record.size} bytes (at most {_MAX_TARGET_SIZE})"
            )
        if record.content.format == ForkFormat.LOCAL:
            return record.content.data[: record.size]
        header = _TARGET_HEADER_SIZE if self.superblock.version == 5 else 0
        target = b""
        for _, place, length in runs(self.blocks, self.superblock, record.content):
            data = read_exactly(self.blocks, place, length, "a symbolic link")
            if header and not checksum.matches_xfs(data, _TARGET_CHECKSUM_OFFSET):
                raise FormatError("it is a damaged symbolic link: wrong checksum")
            target += data[header : header + record.size - len(target)]
            if len(target) == record.size:
                return target
        raise FormatError("it is a truncated symbolic link")
