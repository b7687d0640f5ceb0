"""What the readers of file systems share: the tree from its inodes, nodes, and small records.

The tree is read one level of directories after another, each inode once.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.tree.content import Bytes, Content
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.selection import DirectoryFilter, Inclusion, Selection, select_all
from ltsp.tree.tree import Tree, without_gc

_BASE_MEMORY = 96 << 20
_MEMORY_PER_BYTE = 16
"""Bytes of memory that a tree may take: for any volume, and per byte of the volume. Real trees need a tenth."""
_NODE_MEMORY = 700
_NAME_MEMORY = 150
"""Largest size of a node and of a name in bytes of memory, without the text of names and attributes."""
_MAX_NAME_SIZE = 255
_MAX_PATH_SIZE = 16384
"""Bytes; four times PATH_MAX of Linux. It limits the depth of directories, and so the cost of a walk."""


class InodeSource(Protocol):
    """The inodes of a file system, by its own numbers."""

    def node(self, number: int) -> Node:
        """The node of an inode, without its entries. Called once for each inode."""
        ...

    def entries(self, number: int, limits: FilesystemLimits) -> Iterable[tuple[bytes, int]]:
        """Names and inode numbers of a directory, without `.` and `..`. Bytes read count against `limits`."""
        ...


@dataclass(slots=True)
class FilesystemLimits:
    """Limits of a tree, so that a small hostile volume exhausts neither memory nor, by repeated reads, time."""

    memory_left: int
    """Bytes of memory."""
    directory_bytes_left: int
    """Bytes of directories left to read; directories do not share bytes."""

    @classmethod
    def of(cls, volume: int) -> FilesystemLimits:
        """The limits for a volume of `volume` bytes."""
        return cls(_BASE_MEMORY + _MEMORY_PER_BYTE * volume, volume)

    def take_memory(self, size: int) -> None:
        self.memory_left -= size
        if self.memory_left < 0:
            raise FormatError("the file system has far more files and names than its size allows")

    def count_directory_bytes(self, size: int) -> None:
        self.directory_bytes_left -= size
        if self.directory_bytes_left < 0:
            raise FormatError("the directories add up to more than the file system holds: some overlap")


@dataclass(frozen=True, slots=True)
class _PendingDirectory:
    """A directory whose entries are still to be read."""

    number: int
    siblings: dict[str, Node]
    """Receives the nodes of its entries."""
    path: str
    length: int
    """Length of the path in bytes."""


@dataclass(slots=True)
class FilesystemTreeReader:
    inodes: InodeSource
    limits: FilesystemLimits
    selection: Selection = select_all
    """May have a method `entered`, a DirectoryFilter, which is asked about the directories that are included."""
    _nodes: dict[int, Node] = field(default_factory=dict)

    def tree(self, root: int) -> Tree:
        """The tree below the directory with this number.

        Raises FormatError and SourceError, which name the directory.
        """
        with without_gc():
            node = self._read_node(root)
            if not isinstance(node, Directory):
                raise FormatError("the root of the file system is not a directory")
            entries: dict[str, Node] = {}
            top = replace(node, entries=entries)
            self._nodes[root] = top
            level = [_PendingDirectory(root, entries, "", 0)]
            while level:
                below: list[_PendingDirectory] = []
                for directory in level:
                    self._read_directory(directory, below)
                level = self._filter_level(below)
        return Tree(top)

    def _read_directory(self, directory: _PendingDirectory, pending: list[_PendingDirectory]) -> None:
        try:
            with translate_damage("it"):
                self._read_entries(directory, pending)
        except FormatError as error:
            raise FormatError(f"directory /{printable(directory.path)}: {error.message}", error.hint) from error
        except SourceError as error:
            raise SourceError(f"directory /{printable(directory.path)}: {error.message}", error.hint) from error

    def _filter_level(self, level: list[_PendingDirectory]) -> list[_PendingDirectory]:
        """The directories of one level that are to be read."""
        entered: DirectoryFilter | None = getattr(self.selection, "entered", None)
        if entered is None or not level:
            return level
        answers = entered([directory.path for directory in level])
        return [directory for directory, answer in zip(level, answers, strict=True) if answer]

    def _read_node(self, number: int) -> Node:
        with translate_damage(f"inode {number}"):
            node = self.inodes.node(number)
        self.limits.take_memory(_NODE_MEMORY + _measure_xattrs(node.metadata))
        return node

    def _read_entries(self, directory: _PendingDirectory, pending: list[_PendingDirectory]) -> None:
        siblings, selection = directory.siblings, self.selection
        prefix = directory.path and directory.path + "/"
        selective = selection is not select_all
        known = self._nodes
        for raw, number in self.inodes.entries(directory.number, self.limits):
            self.limits.take_memory(_NAME_MEMORY + 2 * len(raw))
            if not raw or len(raw) > _MAX_NAME_SIZE or b"/" in raw or b"\0" in raw or raw in {b".", b".."}:
                raise FormatError(f"it has an entry with the invalid name {printable(decode(raw[:80]))!r}")
            name = decode(raw)
            if name in siblings:
                raise FormatError(f"it has two entries named {printable(name)}")
            node = known.get(number)
            if node is None:
                try:
                    node = self._read_node(number)
                except FormatError as error:
                    raise FormatError(f"entry {printable(name)}: {error.message}", error.hint) from error
                if isinstance(node, Directory):
                    node = self._begin_directory(directory, name, len(raw), number, node, pending)
                    if node is None:
                        continue
                elif selective and selection(prefix + name, False) is not Inclusion.ALL:
                    continue
                known[number] = node
            elif isinstance(node, Directory):
                raise FormatError(f"entry {printable(name)} is a hard link to a directory")
            elif selective and selection(prefix + name, False) is not Inclusion.ALL:
                continue
            siblings[name] = node

    def _begin_directory(
        self,
        parent: _PendingDirectory,
        name: str,
        size: int,
        number: int,
        node: Directory,
        pending: list[_PendingDirectory],
    ) -> Directory | None:
        """The directory in the tree, its entries to be read later; None if it is excluded."""
        path = f"{parent.path}/{name}" if parent.path else name
        length = parent.length + 1 + size
        if length > _MAX_PATH_SIZE:
            raise FormatError(f"the path of its entry {printable(name)} is longer than {_MAX_PATH_SIZE} bytes")
        inclusion = self.selection(path, True)
        if inclusion is Inclusion.NOTHING:
            return None
        entries: dict[str, Node] = {}
        if inclusion is Inclusion.ALL:
            pending.append(_PendingDirectory(number, entries, path, length))
        return Directory(node.metadata, entries)


def _measure_xattrs(metadata: Metadata) -> int:
    return sum(len(value) + 200 for _, value in metadata.xattrs)


_EMPTY = Bytes(b"")


def make_node(
    mode: int, metadata: Metadata, *, content: Content = _EMPTY, target: bytes = b"", device: tuple[int, int] = (0, 0)
) -> Node:
    """Raises FormatError for an unknown type, and for a symbolic link without a valid target."""
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return File(metadata, content)
        case stat.S_IFDIR:
            return Directory(metadata)
        case stat.S_IFLNK:
            if not target or b"\0" in target:
                raise FormatError("its symbolic link target is empty, or contains a NUL byte")
            return Symlink(metadata, decode(target))
        case stat.S_IFBLK:
            return Device(metadata, DeviceKind.BLOCK, *device)
        case stat.S_IFCHR:
            return Device(metadata, DeviceKind.CHARACTER, *device)
        case stat.S_IFIFO:
            return Fifo(metadata)
        case stat.S_IFSOCK:
            return Socket(metadata)
        case other:
            raise FormatError(f"its file type 0o{other:o} is invalid")


@contextmanager
def add_remedy(remedy: str, where: str = "") -> Iterator[None]:
    """Wrap a parser: damage without a hint gets this one, and the name of what is damaged before its message."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{where}: {error.message}" if where else error.message, error.hint or remedy) from error


@contextmanager
def translate_damage(what: str) -> Iterator[None]:
    """Wrap a parser: numbers that lead outside of the data mean damage, not an internal error."""
    try:
        yield
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is damaged: {error}") from error


_CHUNK = 64 << 10
_MAX_CACHED_CHUNKS = 256
"""Bytes to read at a time, and the number of such chunks to cache: 16 MiB."""


@dataclass(slots=True)
class RecordReader:
    """Reads small records near each other, such as inodes, many at a time."""

    blocks: Blocks
    _chunks: dict[int, bytes] = field(default_factory=dict)

    def read(self, place: int, size: int, what: str) -> bytes:
        """A record; `what` names it in messages. Raises FormatError if it is outside of the volume."""
        number, offset = divmod(place, _CHUNK)
        if offset + size > _CHUNK or number < 0:
            return read_exactly(self.blocks, place, size, what)
        chunk = self._chunks.get(number)
        if chunk is None:
            if len(self._chunks) >= _MAX_CACHED_CHUNKS:
                self._chunks.clear()
            chunk = self._chunks[number] = self.blocks.read_at(number * _CHUNK, _CHUNK)
        record = chunk[offset : offset + size]
        if len(record) < size:
            raise FormatError(f"{what} at {place} extends beyond the end of the volume ({self.blocks.size} bytes)")
        return record
