"""Write the inode table: one record for each node, extended if the basic type is not sufficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import pack
from typing import Final, assert_never

from ltsp.squashfs.dir_writer import WrittenListing
from ltsp.squashfs.file_table import ContentLocation
from ltsp.squashfs.format import (
    MIN_EXTENDED_LISTING_SIZE,
    NO_XATTRS,
    DeviceInode,
    DirectoryInode,
    ExtendedDirectoryInode,
    ExtendedFileInode,
    FileInode,
    InodeType,
    SpecialInode,
    SymlinkInode,
    basic_inode_type,
    encode_device,
)
from ltsp.squashfs.meta_writer import MetadataWriter
from ltsp.squashfs.xattr_writer import XattrWriter
from ltsp.tree.name import encode
from ltsp.tree.node import Device, Directory, Fifo, File, Metadata, Socket, Symlink, clamp_time

_MAX_BASIC_OFFSET: Final = 0xFFFF_FFFF
"""Size of a file, and its offset in the image, from which it needs an extended inode."""
_EXTENDED_DIFFERENCE: Final = InodeType.EXTENDED_DIRECTORY - InodeType.DIRECTORY
"""Difference between a basic type and its extended one."""

_pack_file = FileInode.layout.pack
_pack_extended_file = ExtendedFileInode.layout.pack
_pack_symlink = SymlinkInode.layout.pack


@dataclass(slots=True)
class InodeWriter:
    """Each method appends one inode and returns its reference."""

    table: MetadataWriter
    ids: Mapping[int, int]
    """Index into the id table by user or group id."""
    xattrs: XattrWriter | None
    """None leaves attributes out."""

    def add_directory(self, directory: Directory, number: int, parent: int, listing: WrittenListing) -> int:
        metadata = directory.metadata
        xattrs = self._xattr_index(metadata)
        kind, links = InodeType.DIRECTORY, 2 + listing.directory_count
        if xattrs == NO_XATTRS and not listing.indexes and listing.size < MIN_EXTENDED_LISTING_SIZE:
            head = self._make_header(kind, metadata, number)
            tail = (listing.block, links, listing.size, listing.offset, parent)
            return self.table.write(DirectoryInode.layout.pack(*head, *tail))
        head = self._make_header(kind + _EXTENDED_DIFFERENCE, metadata, number)
        extended = (links, listing.size, listing.block, parent, len(listing.indexes), listing.offset, xattrs)
        return self.table.write(ExtendedDirectoryInode.layout.pack(*head, *extended) + b"".join(listing.indexes))

    def add_file(self, file: File, number: int, links: int, location: ContentLocation, mtime: int | None) -> int:
        """`mtime` is the time of the version that was read, if it differs from the metadata."""
        metadata = file.metadata
        xattrs = self._xattr_index(metadata) if metadata.xattrs else NO_XATTRS
        size, start, fragment, offset, sparse, block_sizes = location
        if (
            links == 1
            and xattrs == NO_XATTRS
            and not sparse
            and size <= _MAX_BASIC_OFFSET
            and start <= _MAX_BASIC_OFFSET
        ):
            head = self._make_header(InodeType.FILE, metadata, number, mtime)
            return self.table.write(_pack_file(*head, start, fragment, offset, size) + block_sizes)
        head = self._make_header(InodeType.EXTENDED_FILE, metadata, number, mtime)
        extended = (start, size, sparse, links, fragment, offset, xattrs)
        return self.table.write(_pack_extended_file(*head, *extended) + block_sizes)

    def add_other(self, node: Symlink | Device | Fifo | Socket, number: int, links: int) -> int:
        xattrs = self._xattr_index(node.metadata)
        kind = basic_inode_type(node) + (0 if xattrs == NO_XATTRS else _EXTENDED_DIFFERENCE)
        head = self._make_header(kind, node.metadata, number)
        match node:
            case Symlink():
                target = encode(node.target)
                record = _pack_symlink(*head, links, len(target)) + target
            case Device():
                record = DeviceInode.layout.pack(*head, links, encode_device(node.major, node.minor))
            case Fifo() | Socket():
                record = SpecialInode.layout.pack(*head, links)
            case _:
                assert_never(node)
        return self.table.write(record if xattrs == NO_XATTRS else record + pack("<I", xattrs))

    def _xattr_index(self, metadata: Metadata) -> int:
        return NO_XATTRS if self.xattrs is None else self.xattrs.index(metadata.xattrs)

    def _make_header(
        self, kind: int, metadata: Metadata, number: int, mtime: int | None = None
    ) -> tuple[int, int, int, int, int, int]:
        ids = self.ids
        time = clamp_time(metadata.mtime if mtime is None else mtime)
        return kind, metadata.mode, ids[metadata.uid], ids[metadata.gid], time, number
