"""btrfs: from a volume to its subvolumes and their trees."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.attributes import gathered, in_order
from ltsp.filesystem.blocks import damage_told
from ltsp.filesystem.btrfs import items
from ltsp.filesystem.btrfs.chunks import Chunks
from ltsp.filesystem.btrfs.content import BtrfsContent, ExtentStream
from ltsp.filesystem.btrfs.data import Data
from ltsp.filesystem.btrfs.items import LAST, Inode
from ltsp.filesystem.btrfs.nodes import Nodes, Root
from ltsp.filesystem.btrfs.superblock import PLACE, REMEDY, SIZE, Superblock
from ltsp.filesystem.special_nodes import made
from ltsp.filesystem.tree_reader import Allowance, Growth
from ltsp.storage.blocks import Blocks
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import Directory, Metadata, Node
from ltsp.tree.selection import Selection, everything
from ltsp.tree.tree import Tree

TOP = 5
"""The subvolume that is there from the start."""
_FIRST, _END = 256, (1 << 64) - 256
"""Numbers of other subvolumes, and of inodes."""
_CHECKSUM_TREE = 7
"""The object whose root is that of the checksum tree."""
_DEFAULT_IN = 6
"""The object in the tree of trees that names the default subvolume."""
_LONGEST_TARGET = 4096
_LARGEST_FILE = 1 << 63
_MOST_SUBVOLUMES = 100_000
_DEEPEST = 2048
_MISSING = (1 << 64) - 1
"""Stands for the directory that is shown where the subvolume of a snapshot's entry is not."""


@dataclass(frozen=True, slots=True)
class Subvolume:
    number: int
    path: str
    """From the top one, without a leading slash; empty for the top one."""


@dataclass(frozen=True, slots=True)
class _Subtree:
    """A tree of files."""

    root: Root
    directory: int


def open(blocks: Blocks) -> Btrfs:  # noqa: A001 - what every kind of file system has under this name
    """The file system in these blocks.

    Raises FormatError where it is none or is damaged, SourceError where it cannot be read here: it has a log to be
    replayed, lies on several devices, or has features that are not known.
    """
    with damage_told("the btrfs file system"):
        superblock = Superblock.parse(blocks.read_at(PLACE, SIZE))
        if superblock.device_size > blocks.size:
            raise FormatError(
                f"the btrfs file system has {superblock.device_size} bytes, the volume only {blocks.size}",
                "copy it again: it was cut off",
            )
        if superblock.log_root:
            raise SourceError(
                "the btrfs file system was not unmounted: its log holds changes that are not in place yet",
                "shut its machine down, or mount and unmount it once (a copy will do)",
            )
        chunks = Chunks(superblock.device, blocks.size)
        chunks.add_system(superblock.system_chunks)
        nodes = Nodes(blocks, superblock, chunks)
        chunk_root = Root(superblock.chunk_root, superblock.chunk_root_level, superblock.chunk_root_generation)
        for (_, kind, start), data in nodes.items(chunk_root, (0, 0, 0), (LAST, 0, 0)):
            if kind == items.CHUNK_ITEM:
                chunks.add(start, data)
        trees = Root(superblock.root, superblock.root_level, superblock.root_generation)
        return Btrfs(nodes, trees, _checksum_tree(nodes, trees))


@dataclass(slots=True)
class Btrfs:
    nodes: Nodes
    _trees: Root
    """The tree of trees."""
    _checksums: Root
    """The checksum tree."""
    _known: dict[int, _Subtree | None] = field(default_factory=dict)
    _metadata: dict[Metadata, Metadata] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "btrfs"

    @property
    def label(self) -> str:
        return self.nodes.superblock.label

    @property
    def uuid(self) -> str:
        return self.nodes.superblock.uuid

    def default(self) -> int:
        """The number of the subvolume that a mount without options shows."""
        first, end = (_DEFAULT_IN, items.DIR_ITEM, 0), (_DEFAULT_IN, items.DIR_ITEM, LAST)
        with damage_told("the tree of trees"):
            for _, data in self.nodes.items(self._trees, first, end):
                for entry in items.named(data):
                    if entry.name == b"default":
                        return entry.target[0]
        return TOP

    def subvolumes(self) -> list[Subvolume]:
        """All of them, by path, the top one first. Those without a name, as they are being deleted, are left out.

        Raises FormatError.
        """
        above: dict[int, tuple[int, int, bytes]] = {}
        with damage_told("the tree of trees"):
            for (number, kind, parent), data in self.nodes.items(self._trees, (_FIRST, 0, 0), (_END, 0, 0)):
                if kind == items.ROOT_BACKREF:
                    above[number] = (parent, *items.reference(data))
                    if len(above) > _MOST_SUBVOLUMES:
                        raise FormatError(f"the btrfs file system has more than {_MOST_SUBVOLUMES} subvolumes")
            paths = {number: self._path(number, above) for number in above}
        found = [Subvolume(number, path) for number, path in paths.items() if path is not None]
        return [Subvolume(TOP, ""), *sorted(found, key=lambda one: encode(one.path))]

    def find(self, path: str) -> int:
        """The number of a subvolume with that path, from the top one, or with `subvolid=` numbers as mount has them.

        Raises SourceError that tells which ones there are.
        """
        wanted = path.strip("/")
        every = self.subvolumes()
        for one in every:
            if one.path == wanted:
                return one.number
        if wanted.isascii() and wanted.isdigit() and any(one.number == int(wanted) for one in every):
            return int(wanted)
        shown = ", ".join(printable(one.path) for one in every[1:11]) or "none but the top one"
        more = "" if len(every) <= 11 else f" and {len(every) - 11} more"
        raise SourceError(f"the btrfs file system has no subvolume {printable(wanted)}", f"there are: {shown}{more}")

    def tree(self, selection: Selection = everything, subvolume: int | None = None) -> Tree:
        """The tree of a subvolume, the default one if none is named, with those that lie in it."""
        number = self.default() if subvolume is None else subvolume
        growth = Growth(self, Allowance.of(self.nodes.blocks.size), selection)
        try:
            with damage_told("the tree of trees"):
                subtree = self._there(number)
            return growth.tree(_number(number, subtree.directory))
        except FormatError as error:
            raise FormatError(error.message, error.hint or REMEDY) from error

    def subvolume_paths(self) -> list[str]:
        return [one.path for one in self.subvolumes()]

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return self.tree(selection, self.find(path))

    def node(self, number: int) -> Node:
        tree, inode = number >> 64, number & LAST - 1
        if inode == _MISSING:
            return Directory(Metadata(0o755))
        subtree = self._there(tree)
        record: Inode | None = None
        found: dict[bytes, bytes] = {}
        for (_, kind, _), data in self.nodes.items(subtree.root, (inode, 0, 0), (inode, items.XATTR_ITEM, LAST)):
            if kind == items.INODE_ITEM:
                record = Inode.parse(data)
            elif kind == items.XATTR_ITEM:
                found.update(gathered((one.name, one.value) for one in items.named(data)))
        if record is None or not record.links or not record.mode:
            raise FormatError(f"inode {inode} of subvolume {tree} is not in use")
        if any(b"\0" in name or not name for name in found):
            raise FormatError(f"the attributes of inode {inode} are damaged")
        new = Metadata(record.mode & 0o7777, record.uid, record.gid, record.mtime, in_order(found))
        metadata = self._metadata.setdefault(new, new)
        extent_data = Data(self.nodes, self._checksums if record.checksums else None)
        content = BtrfsContent(extent_data, subtree.root, inode, record.size, min(record.size, record.stored))
        match stat.S_IFMT(record.mode):
            case stat.S_IFREG:
                if record.size >= _LARGEST_FILE:
                    raise FormatError(f"inode {inode} is a file of {record.size} bytes")
                return made(record.mode, metadata, content=content)
            case stat.S_IFLNK:
                return made(record.mode, metadata, target=_target(content))
            case stat.S_IFBLK | stat.S_IFCHR:
                return made(record.mode, metadata, device=(record.device >> 20 & 0xFFF, record.device & 0xFFFFF))
        return made(record.mode, metadata)

    def entries(self, number: int, allowance: Allowance) -> Iterator[tuple[bytes, int]]:  # noqa: ARG002 - no item is read twice
        tree, inode = number >> 64, number & LAST - 1
        if inode == _MISSING:
            return
        subtree = self._there(tree)
        for _, data in self.nodes.items(subtree.root, (inode, items.DIR_INDEX, 0), (inode, items.DIR_INDEX, LAST)):
            for entry in items.named(data):
                target, kind = entry.target
                if kind == items.INODE_ITEM and _FIRST <= target < _END:
                    yield entry.name, _number(tree, target)
                elif kind == items.ROOT_ITEM:
                    yield entry.name, self._below(tree, inode, entry.name, target)
                else:
                    raise FormatError(f"entry {printable(decode(entry.name))} leads to an item of type {kind}")

    def _below(self, tree: int, inode: int, name: bytes, target: int) -> int:
        """The first directory of a subvolume in another one. Linux fixup_tree_root_location

        A snapshot has the entries for the subvolumes in the original, but not these: an empty directory is shown.
        """
        data = self.nodes.item(self._trees, (tree, items.ROOT_REF, target))
        subtree = self._subtree(target)
        if data is None or subtree is None or items.reference(data) != (inode, name):
            return _number(target << 64 | tree, _MISSING)
        return _number(target, subtree.directory)

    def _there(self, number: int) -> _Subtree:
        subtree = self._subtree(number)
        if subtree is None:
            raise FormatError(f"subvolume {number} of the btrfs file system is not there")
        return subtree

    def _subtree(self, number: int) -> _Subtree | None:
        if number not in self._known:
            self._known[number] = self._looked_up(number)
        return self._known[number]

    def _looked_up(self, number: int) -> _Subtree | None:
        if number != TOP and not _FIRST <= number < _END:
            return None
        first, end = (number, items.ROOT_ITEM, 0), (number, items.ROOT_ITEM, LAST)
        for _, data in self.nodes.items(self._trees, first, end):
            address, level, generation, directory, names = items.root(data)
            if names:
                return _Subtree(Root(address, level, generation), directory)
        return None

    def _path(self, number: int, above: dict[int, tuple[int, int, bytes]]) -> str | None:
        """From the top subvolume; None for one whose way up ends elsewhere."""
        names: list[bytes] = []
        while number != TOP:
            if number not in above or len(names) > _DEEPEST:
                return None
            parent, directory, name = above[number]
            names.append(name)
            subtree = self._subtree(parent)
            if subtree is None:
                return None
            while directory != subtree.directory:
                up = self._parent(subtree, directory)
                if up is None or len(names) > _DEEPEST:
                    return None
                directory, name = up
                names.append(name)
            number = parent
        return "/".join(decode(name) for name in reversed(names))

    def _parent(self, subtree: _Subtree, directory: int) -> tuple[int, bytes] | None:
        first, end = (directory, items.INODE_REF, 0), (directory, items.INODE_REF, LAST)
        for (_, _, parent), data in self.nodes.items(subtree.root, first, end):
            size = int.from_bytes(data[8:10], "little")
            return parent, data[10 : 10 + size]
        return None


def _checksum_tree(nodes: Nodes, trees: Root) -> Root:
    first, end = (_CHECKSUM_TREE, items.ROOT_ITEM, 0), (_CHECKSUM_TREE, items.ROOT_ITEM, LAST)
    for _, data in nodes.items(trees, first, end):
        address, level, generation, _, _ = items.root(data)
        return Root(address, level, generation)
    raise FormatError("the btrfs file system has no checksum tree", REMEDY)


def _number(tree: int, inode: int) -> int:
    """One number for an inode of a subvolume."""
    return tree << 64 | inode


def _target(content: BtrfsContent) -> bytes:
    if content.size > _LONGEST_TARGET:
        raise FormatError(f"it is a symbolic link to a path of {content.size} bytes")
    with content.open() as stream:
        assert isinstance(stream, ExtentStream)
        return stream.read(content.size)
