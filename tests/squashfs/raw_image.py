"""Images assembled from parts that no writer would write: uncompressed and unchecked."""

from __future__ import annotations

import zlib
from dataclasses import replace

from ltsp.squashfs.format import (
    LISTING_EXTRA,
    METADATA_SIZE,
    METADATA_STORED,
    NO_FRAGMENT,
    NO_TABLE,
    DirectoryEntry,
    DirectoryHeader,
    DirectoryInode,
    FileInode,
    InodeType,
)
from ltsp.squashfs.superblock import MAGIC, CompressorId, SquashfsSuperblock

D, F, L = InodeType.DIRECTORY, InodeType.FILE, InodeType.SYMLINK
FILE = FileInode(F, 0o644, 0, 0, 0, 2, start=96, fragment=NO_FRAGMENT, offset=0, file_size=0)
DIRECTORY = DirectoryInode(D, 0o755, 0, 0, 0, 1, block=0, links=2, listing_size=LISTING_EXTRA, offset=0, parent=3)
SUPERBLOCK = SquashfsSuperblock(
    magic=MAGIC,
    inode_count=3,
    mtime=0,
    block_size=131072,
    fragment_count=0,
    compressor=CompressorId.GZIP,
    block_log=17,
    flags=0,
    id_count=1,
    major=4,
    minor=0,
    root=0,
    bytes_used=0,
    id_table=0,
    xattr_table=NO_TABLE,
    inode_table=0,
    directory_table=0,
    fragment_table=NO_TABLE,
    export_table=NO_TABLE,
)


def run(*entries: tuple[bytes, int, int, InodeType], count: int | None = None) -> bytes:
    """A directory header and its entries: name, offset of the inode, its number and type."""
    head = DirectoryHeader(len(entries) - 1 if count is None else count, 0, 0).pack()
    return head + b"".join(
        DirectoryEntry(offset, number, kind, len(name) - 1).pack() + name for name, offset, number, kind in entries
    )


def metadata(data: bytes) -> bytes:
    blocks = [data[at : at + METADATA_SIZE] for at in range(0, len(data), METADATA_SIZE)]
    return b"".join((len(block) | METADATA_STORED).to_bytes(2, "little") + block for block in blocks)


def packed(data: bytes) -> bytes:
    """One metadata block with the data, which may be too long for it."""
    block = zlib.compress(data, 9)
    return len(block).to_bytes(2, "little") + block


def image(
    inodes: bytes, listings: bytes = b"", data: bytes = b"", *, inode_table: bytes = b"", **changes: int
) -> bytes:
    """An image of a table of inodes, or such a table as stored, and one of listings.

    `changes` are those of the superblock.
    """
    parts = [bytes(96) + data, inode_table or metadata(inodes), metadata(listings), metadata(bytes(4))]
    ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
    id_block = ends[2].to_bytes(8, "little")
    superblock = replace(
        SUPERBLOCK,
        inode_table=ends[0],
        directory_table=ends[1],
        id_table=ends[3],
        bytes_used=ends[3] + 8,
    )
    return replace(superblock, **changes).pack() + b"".join(parts)[96:] + id_block


def root(listing: bytes, more: int = 0) -> bytes:
    """The inode of a root directory with that listing, which is claimed to have `more` bytes than it has."""
    return replace(DIRECTORY, listing_size=len(listing) + LISTING_EXTRA + more).pack()


AFTER_ROOT = DirectoryInode.layout.size
"""Offset of the inode that follows that of the root."""
