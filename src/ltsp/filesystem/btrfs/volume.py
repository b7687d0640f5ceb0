"""Read btrfs: its subvolumes and their trees."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.attributes import collect_attributes, sort_attributes
from ltsp.filesystem.btrfs import items
from ltsp.filesystem.btrfs.content import BtrfsContent, ExtentDataReader
from ltsp.filesystem.btrfs.items import OFFSET_END, BtrfsInode
from ltsp.filesystem.btrfs.nodes import NodeReader, TreeRoot
from ltsp.filesystem.btrfs.superblock import OFFSET, REMEDY, SIZE, BtrfsSuperblock, ChunkMap
from ltsp.filesystem.tree_reader import FilesystemLimits, FilesystemTreeReader, add_remedy, make_node, translate_damage
from ltsp.storage.blocks import Blocks
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import Directory, Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

TOP_SUBVOLUME = 5
"""The top-level subvolume."""
_FIRST_CHARACTERS, _END_OF_OBJECTS = 256, (1 << 64) - 256
"""First and last number of other subvolumes, and of inodes."""
_CHECKSUM_TREE = 7
"""The object with the root of the checksum tree."""
_DEFAULT_DIRECTORY = 6
"""The object in the root tree that names the default subvolume."""
_MAX_TARGET_SIZE = 4096
_MAX_FILE_SIZE = 1 << 63
_MAX_SUBVOLUMES = 100_000
_MAX_PATH_DEPTH = 2048
_EMPTY_DIRECTORY = (1 << 64) - 1
"""Number of the empty directory shown in place of a subvolume that a snapshot does not contain."""


@dataclass(frozen=True, slots=True)
class Subvolume:
    number: int
    path: str
    """Path from the top subvolume, without a leading slash; empty for that itself."""


@dataclass(frozen=True, slots=True)
class _SubvolumeRoot:
    """The tree of a subvolume."""

    root: TreeRoot
    directory: int


def open(blocks: Blocks) -> Btrfs:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks.

    Raises FormatError if it is not btrfs or is damaged, SourceError if it has a log to replay, spans several devices,
    or has unknown features.
    """
    with translate_damage("the btrfs file system"):
        superblock = BtrfsSuperblock.parse(blocks.read_at(OFFSET, SIZE))
        if superblock.device_size > blocks.size:
            raise FormatError(
                f"the btrfs file system is {superblock.device_size} bytes long, but the volume only {blocks.size}",
                "copy it again: it is truncated",
            )
        if superblock.log_root:
            raise SourceError(
                "the btrfs file system was not cleanly unmounted: its log has changes that have not been replayed",
                "shut down its machine, or mount and unmount it (or a copy) once",
            )
        chunks = ChunkMap(superblock.device_id, blocks.size)
        chunks.add_system_chunks(superblock.system_chunks)
        nodes = NodeReader(blocks, superblock, chunks)
        chunk_root = TreeRoot(superblock.chunk_root, superblock.chunk_root_level, superblock.chunk_root_generation)
        for (_, kind, start), data in nodes.items(chunk_root, (0, 0, 0), (OFFSET_END, 0, 0)):
            if kind == items.CHUNK_ITEM:
                chunks.add(start, data)
        trees = TreeRoot(superblock.root, superblock.root_level, superblock.root_generation)
        return Btrfs(nodes, trees, _find_checksum_tree(nodes, trees))


@dataclass(slots=True)
class Btrfs:
    node_reader: NodeReader
    _root_tree: TreeRoot
    """The root tree."""
    _checksum_tree: TreeRoot
    """The checksum tree."""
    _subvolume_roots: dict[int, _SubvolumeRoot | None] = field(default_factory=dict)
    _metadata: dict[Metadata, Metadata] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "btrfs"

    @property
    def label(self) -> str:
        return self.node_reader.superblock.label

    @property
    def uuid(self) -> str:
        return self.node_reader.superblock.uuid

    def default_subvolume(self) -> int:
        """The number of the subvolume that is mounted by default."""
        first, end = (_DEFAULT_DIRECTORY, items.DIR_ITEM, 0), (_DEFAULT_DIRECTORY, items.DIR_ITEM, OFFSET_END)
        with translate_damage("the root tree"):
            for _, data in self.node_reader.items(self._root_tree, first, end):
                for entry in items.parse_dir_items(data):
                    if entry.name == b"default":
                        return entry.target[0]
        return TOP_SUBVOLUME

    def subvolumes(self) -> list[Subvolume]:
        """All subvolumes by path, the top one first, without those that are being deleted and so have no name.

        Raises FormatError.
        """
        backrefs: dict[int, tuple[int, int, bytes]] = {}
        with translate_damage("the root tree"):
            for (number, kind, parent), data in self.node_reader.items(
                self._root_tree, (_FIRST_CHARACTERS, 0, 0), (_END_OF_OBJECTS, 0, 0)
            ):
                if kind == items.ROOT_BACKREF:
                    backrefs[number] = (parent, *items.parse_root_ref(data))
                    if len(backrefs) > _MAX_SUBVOLUMES:
                        raise FormatError(f"the btrfs file system has more than {_MAX_SUBVOLUMES} subvolumes")
            paths = {number: self._find_path(number, backrefs) for number in backrefs}
        found = [Subvolume(number, path) for number, path in paths.items() if path is not None]
        return [Subvolume(TOP_SUBVOLUME, ""), *sorted(found, key=lambda one: encode(one.path))]

    def find_subvolume(self, path: str) -> int:
        """The number of the subvolume with this path from the top one, or with a `subvolid=` as for mount.

        Raises SourceError, which lists the existing ones.
        """
        wanted = path.strip("/")
        every = self.subvolumes()
        for one in every:
            if one.path == wanted:
                return one.number
        if wanted.isascii() and wanted.isdigit() and any(one.number == int(wanted) for one in every):
            return int(wanted)
        shown = ", ".join(printable(one.path) for one in every[1:11]) or "only the top one"
        more = "" if len(every) <= 11 else f" and {len(every) - 11} more"
        raise SourceError(f"the btrfs file system has no subvolume {printable(wanted)}", f"subvolumes: {shown}{more}")

    def tree(self, selection: Selection = select_all, subvolume: int | None = None) -> Tree:
        """The tree of a subvolume (the default one if None), including nested subvolumes."""
        number = self.default_subvolume() if subvolume is None else subvolume
        reader = FilesystemTreeReader(self, FilesystemLimits.of(self.node_reader.blocks.size), selection)
        with add_remedy(REMEDY):
            with translate_damage("the root tree"):
                subtree = self._require_subvolume(number)
            return reader.tree(_pack_number(number, subtree.directory))

    def subvolume_paths(self) -> list[str]:
        return [one.path for one in self.subvolumes()]

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return self.tree(selection, self.find_subvolume(path))

    def node(self, number: int) -> Node:
        tree, inode = number >> 64, number & OFFSET_END - 1
        if inode == _EMPTY_DIRECTORY:
            return Directory(Metadata(0o755))
        subtree = self._require_subvolume(tree)
        record: BtrfsInode | None = None
        found: dict[bytes, bytes] = {}
        for (_, kind, _), data in self.node_reader.items(
            subtree.root, (inode, 0, 0), (inode, items.XATTR_ITEM, OFFSET_END)
        ):
            if kind == items.INODE_ITEM:
                record = BtrfsInode.parse(data)
            elif kind == items.XATTR_ITEM:
                found.update(collect_attributes((one.name, one.value) for one in items.parse_dir_items(data)))
        if record is None or not record.links or not record.mode:
            raise FormatError(f"inode {inode} of subvolume {tree} is not in use")
        if any(b"\0" in name or not name for name in found):
            raise FormatError(f"the extended attributes of inode {inode} are damaged")
        new = Metadata(record.mode & 0o7777, record.uid, record.gid, record.mtime, sort_attributes(found))
        metadata = self._metadata.setdefault(new, new)
        extent_data = ExtentDataReader(self.node_reader, self._checksum_tree if record.has_checksums else None)
        content = BtrfsContent(extent_data, subtree.root, inode, record.size, min(record.size, record.stored))
        match stat.S_IFMT(record.mode):
            case stat.S_IFREG:
                if record.size >= _MAX_FILE_SIZE:
                    raise FormatError(f"inode {inode} has an invalid size: {record.size} bytes")
                return make_node(record.mode, metadata, content=content)
            case stat.S_IFLNK:
                return make_node(record.mode, metadata, target=_read_target(content))
            case stat.S_IFBLK | stat.S_IFCHR:
                return make_node(record.mode, metadata, device=(record.device >> 20 & 0xFFF, record.device & 0xFFFFF))
        return make_node(record.mode, metadata)

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:  # noqa: ARG002 - no item is read twice
        tree, inode = number >> 64, number & OFFSET_END - 1
        if inode == _EMPTY_DIRECTORY:
            return
        subtree = self._require_subvolume(tree)
        for _, data in self.node_reader.items(
            subtree.root, (inode, items.DIR_INDEX, 0), (inode, items.DIR_INDEX, OFFSET_END)
        ):
            for entry in items.parse_dir_items(data):
                target, kind = entry.target
                if kind == items.INODE_ITEM and _FIRST_CHARACTERS <= target < _END_OF_OBJECTS:
                    yield entry.name, _pack_number(tree, target)
                elif kind == items.ROOT_ITEM:
                    yield entry.name, self._find_nested_root(tree, inode, entry.name, target)
                else:
                    raise FormatError(f"entry {printable(decode(entry.name))} refers to an item of type {kind}")

    def _find_nested_root(self, tree: int, inode: int, name: bytes, target: int) -> int:
        """The root directory of a nested subvolume. Linux fixup_tree_root_location

        A snapshot has entries for the nested subvolumes of its original but not these: an empty directory is shown.
        """
        data = self.node_reader.find_item(self._root_tree, (tree, items.ROOT_REF, target))
        subtree = self._find_subvolume(target)
        if data is None or subtree is None or items.parse_root_ref(data) != (inode, name):
            return _pack_number(target << 64 | tree, _EMPTY_DIRECTORY)
        return _pack_number(target, subtree.directory)

    def _require_subvolume(self, number: int) -> _SubvolumeRoot:
        subtree = self._find_subvolume(number)
        if subtree is None:
            raise FormatError(f"subvolume {number} of the btrfs file system does not exist")
        return subtree

    def _find_subvolume(self, number: int) -> _SubvolumeRoot | None:
        if number not in self._subvolume_roots:
            self._subvolume_roots[number] = self._look_up_subvolume(number)
        return self._subvolume_roots[number]

    def _look_up_subvolume(self, number: int) -> _SubvolumeRoot | None:
        if number != TOP_SUBVOLUME and not _FIRST_CHARACTERS <= number < _END_OF_OBJECTS:
            return None
        first, end = (number, items.ROOT_ITEM, 0), (number, items.ROOT_ITEM, OFFSET_END)
        for _, data in self.node_reader.items(self._root_tree, first, end):
            address, level, generation, directory, names = items.parse_root_item(data)
            if names:
                return _SubvolumeRoot(TreeRoot(address, level, generation), directory)
        return None

    def _find_path(self, number: int, backrefs: dict[int, tuple[int, int, bytes]]) -> str | None:
        """The path from the top subvolume; None if it does not lead there."""
        names: list[bytes] = []
        while number != TOP_SUBVOLUME:
            if number not in backrefs or len(names) > _MAX_PATH_DEPTH:
                return None
            parent, directory, name = backrefs[number]
            names.append(name)
            subtree = self._find_subvolume(parent)
            if subtree is None:
                return None
            while directory != subtree.directory:
                parent_entry = self._find_parent(subtree, directory)
                if parent_entry is None or len(names) > _MAX_PATH_DEPTH:
                    return None
                directory, name = parent_entry
                names.append(name)
            number = parent
        return "/".join(decode(name) for name in reversed(names))

    def _find_parent(self, subtree: _SubvolumeRoot, directory: int) -> tuple[int, bytes] | None:
        first, end = (directory, items.INODE_REF, 0), (directory, items.INODE_REF, OFFSET_END)
        for (_, _, parent), data in self.node_reader.items(subtree.root, first, end):
            size = int.from_bytes(data[8:10], "little")
            return parent, data[10 : 10 + size]
        return None


def _find_checksum_tree(nodes: NodeReader, trees: TreeRoot) -> TreeRoot:
    first, end = (_CHECKSUM_TREE, items.ROOT_ITEM, 0), (_CHECKSUM_TREE, items.ROOT_ITEM, OFFSET_END)
    for _, data in nodes.items(trees, first, end):
        address, level, generation, _, _ = items.parse_root_item(data)
        return TreeRoot(address, level, generation)
    raise FormatError("the btrfs file system has no checksum tree", REMEDY)


def _pack_number(tree: int, inode: int) -> int:
    """A single number for an inode in a subvolume."""
    return tree << 64 | inode


def _read_target(content: BtrfsContent) -> bytes:
    if content.size > _MAX_TARGET_SIZE:
        raise FormatError(
            f"its target is too long for a symbolic link: {content.size} bytes (at most {_MAX_TARGET_SIZE})"
        )
    with content.open() as stream:
        return stream.read(content.size)
