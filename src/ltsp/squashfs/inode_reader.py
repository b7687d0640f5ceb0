"""Read inodes: from an offset in the inode table to a node of a tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from ltsp.errors import FormatError
from ltsp.squashfs.data_reader import DataReader, FileContent
from ltsp.squashfs.format import (
    LISTING_EXTRA,
    MAX_TARGET_SIZE,
    NO_FRAGMENT,
    NO_XATTRS,
    DeviceInode,
    DirectoryInode,
    ExtendedDirectoryInode,
    ExtendedFileInode,
    FileInode,
    InodeHeader,
    InodeType,
    SpecialInode,
    SymlinkInode,
    decode_device,
)
from ltsp.squashfs.meta_reader import MemoryBudget, MetadataTable
from ltsp.squashfs.xattr_reader import XattrReader, Xattrs
from ltsp.tree.name import decode
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink

_InodeRecord = (
    DirectoryInode | FileInode | SymlinkInode | DeviceInode | SpecialInode | ExtendedDirectoryInode | ExtendedFileInode
)
_BASIC: dict[InodeType, type[_InodeRecord]] = {
    InodeType.DIRECTORY: DirectoryInode,
    InodeType.FILE: FileInode,
    InodeType.SYMLINK: SymlinkInode,
    InodeType.BLOCK_DEVICE: DeviceInode,
    InodeType.CHARACTER_DEVICE: DeviceInode,
    InodeType.FIFO: SpecialInode,
    InodeType.SOCKET: SpecialInode,
}
_EXTENDED: dict[InodeType, type[_InodeRecord]] = {
    InodeType.DIRECTORY: ExtendedDirectoryInode,
    InodeType.FILE: ExtendedFileInode,
}
"""Extended inodes with their own record; the others have an xattr index at the end."""


class _InodeKind(NamedTuple):
    basic: InodeType
    record: type[_InodeRecord]
    extended: bool


_KINDS = {
    kind.value: _InodeKind(kind.basic, _BASIC[kind], extended=False)
    if kind == kind.basic
    else _InodeKind(kind.basic, _EXTENDED.get(kind.basic, _BASIC[kind.basic]), extended=True)
    for kind in InodeType
}
"""Records by the type number in the inode."""
_HEADER_SIZE = InodeHeader.layout.size
_NODE_MEMORY = 400
"""Measured bytes of memory of a node, without names, targets and block lists; a byte of those may take two."""
_CACHE_SIZE = 1 << 16
"""Cached metadata objects to share; files of a package mostly have the same."""


@dataclass(frozen=True, slots=True)
class ListingToRead:
    """Location of a directory's listing in the directory table, and the entries to fill."""

    block: int
    offset: int
    size: int
    """Bytes."""
    entries: dict[str, Node]
    """The entries of the directory's node."""


@dataclass(frozen=True, slots=True)
class SquashfsInode:
    inode_number: int
    node: Node
    listing: ListingToRead | None = None
    """The listing of a directory, whose node has no entries yet."""


@dataclass(slots=True)
class InodeReader:
    table: MetadataTable
    ids: tuple[int, ...]
    xattrs: XattrReader | None
    blocks: DataReader
    budget: MemoryBudget
    _metadata_cache: dict[tuple[bytes, int], Metadata] = field(default_factory=dict)

    def read(self, block: int, offset: int, kind: int) -> SquashfsInode:
        """The inode at a location; it must be of this basic type.

        Raises FormatError if it is damaged.
        """
        data, at = self.table.view(block, offset, _HEADER_SIZE)
        type_number = data[at] | data[at + 1] << 8
        inode_kind = _KINDS.get(type_number)
        if inode_kind is None or inode_kind.basic != kind:
            raise self._damage_error(block, offset, f"type {type_number} where type {kind} is expected")
        size = inode_kind.record.layout.size
        data, at = self.table.view(block, offset, size)
        inode = inode_kind.record.unpack(data, at)
        try:
            rest = self._extra_size(inode, extended=inode_kind.extended)
            self.budget.take(_NODE_MEMORY + 2 * rest)
            if rest:
                data, at = self.table.view(block, offset, size + rest)
            return self._make_inode(inode, inode_kind, data[at + 2 : at + 12], data[at + size : at + size + rest])
        except _InodeFault as fault:
            raise self._damage_error(block, offset, str(fault)) from None

    def _damage_error(self, block: int, offset: int, fault: str) -> FormatError:
        return self.table.damage_error(block, f"inode at offset {offset}: {fault}")

    def _extra_size(self, inode: _InodeRecord, *, extended: bool) -> int:
        """Bytes of the inode after its record, as far as they are needed here."""
        match inode:
            case DirectoryInode() | ExtendedDirectoryInode():
                return 0
            case FileInode() | ExtendedFileInode():
                return 4 * self._block_count(inode)
            case SymlinkInode():
                if not 0 < inode.target_size <= MAX_TARGET_SIZE:
                    raise _InodeFault(
                        f"invalid symbolic link: target of {inode.target_size} bytes (1 to {MAX_TARGET_SIZE})"
                    )
                return inode.target_size + 4 * extended
            case DeviceInode() | SpecialInode():
                return 4 * extended
            case _:
                assert_never(inode)

    def _block_count(self, inode: FileInode | ExtendedFileInode) -> int:
        """Data blocks of a file, without its fragment."""
        full, end = divmod(inode.file_size, self.blocks.block_size)
        if inode.fragment == NO_FRAGMENT:
            return full + (end > 0)
        fragments = 0 if self.blocks.fragments is None else self.blocks.fragments.count
        if inode.fragment >= fragments or inode.offset + end > self.blocks.block_size:
            raise _InodeFault(
                f"invalid fragment: {end} bytes at {inode.offset} in fragment block {inode.fragment} of {fragments}"
            )
        return full

    def _make_inode(self, inode: _InodeRecord, kind: _InodeKind, common: bytes, rest: bytes) -> SquashfsInode:
        match inode:
            case DirectoryInode():
                return self._make_directory(inode, self._make_metadata(inode, common, NO_XATTRS))
            case ExtendedDirectoryInode():
                return self._make_directory(inode, self._make_metadata(inode, common, inode.xattrs))
            case FileInode():
                return self._make_file(inode, self._make_metadata(inode, common, NO_XATTRS), rest)
            case ExtendedFileInode():
                return self._make_file(inode, self._make_metadata(inode, common, inode.xattrs), rest)
        xattrs = int.from_bytes(rest[-4:], "little") if kind.extended else NO_XATTRS
        metadata = self._make_metadata(inode, common, xattrs)
        match inode:
            case SymlinkInode():
                target = rest[: inode.target_size]
                if b"\0" in target:
                    raise _InodeFault("invalid symbolic link: a NUL in its target")
                return SquashfsInode(inode.inode_number, Symlink(metadata, decode(target)))
            case DeviceInode():
                major, minor = decode_device(inode.device)
                block_device = kind.basic is InodeType.BLOCK_DEVICE
                device_kind = DeviceKind.BLOCK if block_device else DeviceKind.CHARACTER
                return SquashfsInode(inode.inode_number, Device(metadata, device_kind, major, minor))
            case SpecialInode():
                fifo = kind.basic is InodeType.FIFO
                return SquashfsInode(inode.inode_number, Fifo(metadata) if fifo else Socket(metadata))
            case _:
                assert_never(inode)

    def _make_directory(self, inode: DirectoryInode | ExtendedDirectoryInode, metadata: Metadata) -> SquashfsInode:
        listing = ListingToRead(inode.block, inode.offset, max(inode.listing_size - LISTING_EXTRA, 0), {})
        return SquashfsInode(inode.inode_number, Directory(metadata, listing.entries), listing)

    def _make_file(self, inode: FileInode | ExtendedFileInode, metadata: Metadata, block_sizes: bytes) -> SquashfsInode:
        content = FileContent(self.blocks, inode.file_size, inode.start, block_sizes, inode.fragment, inode.offset)
        return SquashfsInode(inode.inode_number, File(metadata, content))

    def _make_metadata(self, inode: _InodeRecord, common: bytes, xattrs: int) -> Metadata:
        """`common` is the stored part of the header with the metadata: mode, ids and time."""
        metadata = self._metadata_cache.get((common, xattrs))
        if metadata is None:
            if max(inode.uid, inode.gid) >= len(self.ids):
                raise _InodeFault(
                    f"owner index {inode.uid}:{inode.gid} is outside the id table, which has {len(self.ids)} entries"
                )
            metadata = Metadata(
                mode=inode.mode & 0o7777,
                uid=self.ids[inode.uid],
                gid=self.ids[inode.gid],
                mtime=inode.mtime,
                xattrs=self._read_xattrs(xattrs),
            )
            if len(self._metadata_cache) >= _CACHE_SIZE:
                self._metadata_cache.clear()
            self._metadata_cache[common, xattrs] = metadata
        return metadata

    def _read_xattrs(self, set_index: int) -> Xattrs:
        if set_index == NO_XATTRS:
            return ()
        if self.xattrs is None:
            raise _InodeFault("it has extended attributes, but the image has no xattr table")
        return self.xattrs.read(set_index, self.budget)


class _InodeFault(Exception):
    """A damaged inode; the caller adds the location."""
