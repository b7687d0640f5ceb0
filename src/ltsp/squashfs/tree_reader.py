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

_NAME_COST = 150
"""Largest size in memory of a directory entry, without its node and the characters of its name."""
_INODE_COST = 16
"""Bytes of memory for an inode number while the tree is read."""
_LONGEST_PATH = 16384
"""Bytes; four times PATH_MAX of Linux. It limits the depth of directories, and so the cost of a walk."""


@dataclass(frozen=True, slots=True)
class _PendingListing:
    """A directory whose listing has not been read yet."""

    listing: ListingToRead
    above: _PendingListing | None = None
    name: str = ""
    length: int = 0
    """Length of its path in bytes."""

    def __str__(self) -> str:
        names = []
        branch = self
        while branch.above is not None:
            names.append(branch.name)
            branch = branch.above
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
        self.budget.take(_INODE_COST * numbers)
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
            self._fill_all(_PendingListing(inode.listing))
        return Tree(root)

    def _fill_all(self, root: _PendingListing) -> None:
        pending = [root]
        while pending:
            branch = pending.pop()
            try:
                self._fill(branch, pending)
            except FormatError as error:
                raise FormatError(f"directory {branch}: {error.message}") from error

    def _fill(self, branch: _PendingListing, pending: list[_PendingListing]) -> None:
        """Give a directory its entries; those that are directories become pending."""
        listing = branch.listing
        for entry in read_entries(self.directories.pieces(listing.block, listing.offset, listing.size)):
            self.budget.take(_NAME_COST + 2 * len(entry.name))
            name = decode(entry.name)
            node = self._find_hard_link(entry)
            if node is None:
                inode = self.inodes.read(entry.block, entry.offset, entry.kind)
                if inode.number != entry.number:
                    raise _damage_error(entry, f"its inode has the number {inode.number}, not {entry.number}")
                node = self._register_inode(inode, pack_reference(entry.block, entry.offset))
                if inode.listing is not None:
                    length = branch.length + 1 + len(entry.name)
                    if length > _LONGEST_PATH:
                        raise _damage_error(entry, f"its path is longer than {_LONGEST_PATH} bytes")
                    pending.append(_PendingListing(inode.listing, branch, name, length))
            listing.entries[name] = node

    def _find_hard_link(self, entry: ListingEntry) -> Node | None:
        """The node of an inode that was found under an earlier name."""
        node = self.nodes[entry.number] if 0 < entry.number < len(self.nodes) else None
        if node is None:
            return None
        if isinstance(node, Directory):
            raise _damage_error(entry, "a second name of a directory")
        if entry.kind != basic_inode_type(node) or self.references[entry.number] != pack_reference(
            entry.block, entry.offset
        ):
            raise _damage_error(entry, f"it is a different inode {entry.number} than that of an earlier name")
        return node

    def _register_inode(self, inode: SquashfsInode, place: int) -> Node:
        if not 0 < inode.number < len(self.nodes):
            raise FormatError(
                f"inode table is damaged: inode number {inode.number} is not between 1 and {len(self.nodes) - 1}"
            )
        self.nodes[inode.number] = inode.node
        self.references[inode.number] = place
        return inode.node


def _damage_error(entry: ListingEntry, fault: str) -> FormatError:
    return FormatError(f"entry {printable(decode(entry.name))} is damaged: {fault}")
