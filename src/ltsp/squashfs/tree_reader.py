"""Read the tree of an image from the root inode, one directory after another, each inode once."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ltsp.errors import FormatError
from ltsp.squashfs.dir_reader import ListingEntry, read_entries
from ltsp.squashfs.format import InodeType, basic_inode_type, pack_reference, unpack_reference
from ltsp.squashfs.inode_reader import InodeReader, ListingToRead, SquashfsInode
from ltsp.squashfs.meta_reader import MemoryBudget, MetadataTable
from ltsp.squashfs.superblock import SquashfsSuperblock
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, Node
from ltsp.tree.tree import Tree, without_gc

_NAME_MEMORY = 150
"""Largest size in memory of a directory entry, without its node and the characters of its name."""
_INODE_MEMORY = 16
"""Bytes of memory for an inode number while the tree is read."""
_MAX_PATH_SIZE = 16384
"""Bytes; four times PATH_MAX of Linux. It limits the depth of directories, and so the cost of a walk."""


@dataclass(frozen=True, slots=True)
class _PendingListing:
    """A directory whose listing has not been read yet."""

    listing: ListingToRead
    parent: _PendingListing | None = None
    name: str = ""
    length: int = 0
    """Length of its path in bytes."""

    def __str__(self) -> str:
        names = []
        directory = self
        while directory.parent is not None:
            names.append(directory.name)
            directory = directory.parent
        return "/" + printable("/".join(reversed(names)))


@dataclass(slots=True)
class SquashfsTreeReader:
    superblock: SquashfsSuperblock
    directories: MetadataTable
    inodes: InodeReader
    budget: MemoryBudget
    nodes: list[Node | None] = field(init=False)
    """By inode number."""
    references: array[int] = field(init=False)
    """Location of each inode in its table, by inode number."""

    def __post_init__(self) -> None:
        numbers = self.superblock.inode_count + 1
        self.budget.take(_INODE_MEMORY * numbers)
        self.nodes = [None] * numbers
        self.references = array("Q", bytes(8 * numbers))

    def tree(self) -> Tree:
        """Raises FormatError, which names the damaged directory."""
        block, offset = unpack_reference(self.superblock.root)
        inode = self.inodes.read(block, offset, InodeType.DIRECTORY)
        root = self._register_inode(inode, self.superblock.root)
        assert isinstance(root, Directory)
        assert inode.listing is not None
        with without_gc():
            self._read_listings(_PendingListing(inode.listing))
        return Tree(root)

    def _read_listings(self, root: _PendingListing) -> None:
        pending = [root]
        while pending:
            directory = pending.pop()
            try:
                self._read_listing(directory, pending)
            except FormatError as error:
                raise FormatError(f"directory {directory}: {error.message}") from error

    def _read_listing(self, directory: _PendingListing, pending: list[_PendingListing]) -> None:
        """Give a directory its entries; those that are directories become pending."""
        listing = directory.listing
        for entry in read_entries(self.directories.pieces(listing.block, listing.offset, listing.size)):
            self.budget.take(_NAME_MEMORY + 2 * len(entry.name))
            name = decode(entry.name)
            node = self._find_hard_link(entry)
            if node is None:
                inode = self.inodes.read(entry.block, entry.offset, entry.kind)
                if inode.inode_number != entry.inode_number:
                    raise _damage_error(
                        entry, f"its inode has the number {inode.inode_number}, not {entry.inode_number}"
                    )
                node = self._register_inode(inode, pack_reference(entry.block, entry.offset))
                if inode.listing is not None:
                    length = directory.length + 1 + len(entry.name)
                    if length > _MAX_PATH_SIZE:
                        raise _damage_error(entry, f"its path is longer than {_MAX_PATH_SIZE} bytes")
                    pending.append(_PendingListing(inode.listing, directory, name, length))
            listing.entries[name] = node

    def _find_hard_link(self, entry: ListingEntry) -> Node | None:
        """The node of an inode that was found under an earlier name."""
        node = self.nodes[entry.inode_number] if 0 < entry.inode_number < len(self.nodes) else None
        if node is None:
            return None
        if isinstance(node, Directory):
            raise _damage_error(entry, "a second name of a directory")
        if entry.kind != basic_inode_type(node) or self.references[entry.inode_number] != pack_reference(
            entry.block, entry.offset
        ):
            raise _damage_error(entry, f"it is a different inode {entry.inode_number} than that of an earlier name")
        return node

    def _register_inode(self, inode: SquashfsInode, reference: int) -> Node:
        if not 0 < inode.inode_number < len(self.nodes):
            raise FormatError(
                f"inode table is damaged: inode number {inode.inode_number} is not between 1 and {len(self.nodes) - 1}"
            )
        self.nodes[inode.inode_number] = inode.node
        self.references[inode.inode_number] = reference
        return inode.node


def _damage_error(entry: ListingEntry, fault: str) -> FormatError:
    return FormatError(f"entry {printable(decode(entry.name))} is damaged: {fault}")
