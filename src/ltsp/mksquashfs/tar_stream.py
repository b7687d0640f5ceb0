"""Write a tree as a tar stream, for programs that read one: mksquashfs, GNU tar, bsdtar.

The root directory is not included, since a tar reader has its own. A header records a file's size before its data. So a
file up to 4 MiB is read whole first, and again if it changed meanwhile; a larger one is streamed, truncated or padded
with zeros to the announced size, and recorded in the faults if it was not one consistent version. Holes are sent as
zeros: squashfs does not store whole blocks of zeros in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

from ltsp.errors import FileUnreadable, FileVanished, FormatError
from ltsp.mksquashfs.tar_header import END_OF_ARCHIVE, TarEntry, TarType, padding
from ltsp.tree.content import ByteOutput, Content, Stream
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink, clamp_time
from ltsp.tree.tree import Tree

_MAX_BUFFERED_SIZE = 4 << 20
"""Bytes up to which a file is read before its header is written."""
_CHUNK_SIZE = 1 << 20
_MAX_READS = 4
"""How often a changing file is read; after that it is stored as it is, and reported."""
_ZEROS = bytes(_CHUNK_SIZE)
_KEPT_NAMESPACES = ("user.", "trusted.", "security.")
"""The namespaces of attributes that squashfs supports."""


@dataclass(slots=True)
class TarResult:
    """Counts of what was written to a stream and what could not be."""

    entries: int = 0
    source_bytes: int = 0
    sockets: int = 0
    """Omitted sockets: tar has no type for them."""
    clamped_times: int = 0
    """Times before 1970 or after 2106, which squashfs cannot store."""
    posix_acls: int = 0
    """Attributes with access control lists, which squashfs cannot store."""
    foreign_attributes: int = 0
    """Attributes outside user., trusted. and security., and those with `=` in their name."""


def write_tar(
    tree: Tree,
    output: ByteOutput,
    faults: Faults,
    progress: Callable[[int], None] = lambda _amount: None,
    sort_priorities: Mapping[str, int] | None = None,
) -> TarResult:
    """Write the tree.

    `progress` is called with the bytes of source since its last call. `sort_priorities` has priorities of files
    by path: higher ones come earlier, and all others have 0.
    Raises FileUnreadable if a file cannot be read, unless `faults` allows skipping it and its header is not written
    yet, and whatever `output.write` raises.
    """
    return _TarWriter(output, faults, progress, _find_shared(tree)).write_all(_order_nodes(tree, sort_priorities or {}))


def _find_shared(tree: Tree) -> set[int]:
    """The ids of nodes with several names."""
    seen: set[int] = set()
    shared: set[int] = set()
    for _, node in tree.walk():
        (shared if id(node) in seen else seen).add(id(node))
    return shared


def _order_nodes(tree: Tree, sort_priorities: Mapping[str, int]) -> Iterator[tuple[str, Node]]:
    """Nodes in path order; with priorities, all directories first."""
    if not sort_priorities:
        yield from tree.walk()
        return
    yield from ((path, node) for path, node in tree.walk() if isinstance(node, Directory))
    others = [(path, node) for path, node in tree.walk() if not isinstance(node, Directory)]
    yield from sorted(others, key=lambda item: -sort_priorities.get(item[0], 0))


class _TarWriter:
    def __init__(self, output: ByteOutput, faults: Faults, progress: Callable[[int], None], shared: set[int]) -> None:
        self._write = output.write
        self._faults = faults
        self._progress = progress
        self._shared = shared
        self._first_paths: dict[int, str] = {}
        """First path of each node with several names."""
        self._result = TarResult()

    def write_all(self, nodes: Iterator[tuple[str, Node]]) -> TarResult:
        for path, node in nodes:
            first_path = self._first_paths.get(id(node))
            if first_path is not None:
                self._write_header(TarType.HARD_LINK, path, node.metadata, target=first_path)
            elif self._write_node(path, node) and id(node) in self._shared:
                self._first_paths[id(node)] = path
        self._write(END_OF_ARCHIVE)
        return self._result

    def _write_node(self, path: str, node: Node) -> bool:
        """Write a node; False if it is omitted."""
        metadata = node.metadata
        match node:
            case Directory():
                self._write_header(TarType.DIRECTORY, path, metadata)
            case File():
                return self._write_file(path, node)
            case Symlink():
                self._write_header(TarType.SYMLINK, path, metadata, target=node.target)
            case Device():
                kind = TarType.BLOCK if node.kind is DeviceKind.BLOCK else TarType.CHARACTER
                self._write_header(kind, path, metadata, major=node.major, minor=node.minor)
            case Fifo():
                self._write_header(TarType.FIFO, path, metadata)
            case Socket():
                self._result.sockets += 1
                return False
            case _:
                assert_never(node)
        return True

    def _write_header(
        self,
        kind: TarType,
        path: str,
        metadata: Metadata,
        *,
        mtime: int | None = None,
        size: int = 0,
        target: str = "",
        major: int = 0,
        minor: int = 0,
    ) -> None:
        linked = kind is TarType.HARD_LINK
        self._result.entries += 1
        self._write(
            TarEntry(
                kind=kind,
                path=encode(path),
                mode=metadata.mode,
                uid=metadata.uid,
                gid=metadata.gid,
                mtime=self._clamp_time(metadata.mtime if mtime is None else mtime, counted=not linked),
                size=size,
                target=encode(target),
                major=major,
                minor=minor,
                xattrs=() if linked else self._filter_xattrs(metadata),
            ).pack()
        )

    def _clamp_time(self, mtime: int, *, counted: bool) -> int:
        clamped = clamp_time(mtime)
        self._result.clamped_times += counted and clamped != mtime
        return clamped

    def _filter_xattrs(self, metadata: Metadata) -> list[tuple[bytes, bytes]]:
        kept = []
        for name, value in metadata.xattrs:
            if name.startswith("system.posix_acl_"):
                self._result.posix_acls += 1
            elif not name.startswith(_KEPT_NAMESPACES) or "=" in name:
                self._result.foreign_attributes += 1
            else:
                kept.append((encode(name), value))
        return kept

    def _write_file(self, path: str, file: File) -> bool:
        with ExitStack() as stack:
            try:
                whole = _read_whole(file.content)
                stream = stack.enter_context(file.content.open()) if whole is None else None
            except FileVanished:
                self._faults.note_vanished(path)
                return False
            except OSError as error:
                self._faults.note_unreadable(path, error)
                return False
            except FormatError as error:
                self._faults.note_damaged(path, error)
                return False
            if stream is not None:
                self._write_large(path, file, stream)
        if whole is not None:
            if not whole.is_consistent:
                self._faults.note_changed(path)
            self._write_header(TarType.FILE, path, file.metadata, mtime=whole.mtime, size=len(whole.data))
            self._write(whole.data + padding(len(whole.data)))
            self._count(len(whole.data))
        return True

    def _write_large(self, path: str, file: File, stream: Stream) -> None:
        size = stream.size
        self._write_header(TarType.FILE, path, file.metadata, mtime=stream.mtime, size=size)
        left = size
        try:
            for piece in _read_pieces(stream, size):
                left -= len(piece)
                self._write(piece)
                self._count(len(piece))
        except _ReadingFailed as failed:
            raise FileUnreadable(
                f"cannot read /{printable(path)} to its end: {failed.reason}",
                "nothing was published; exclude this file from the image",
            ) from failed.error
        for zero_count in range(left, 0, -_CHUNK_SIZE):
            self._write(_ZEROS[:zero_count])
        self._write(padding(size))
        if left or not stream.is_consistent():
            self._faults.note_changed(path)

    def _count(self, amount: int) -> None:
        self._result.source_bytes += amount
        self._progress(amount)


@dataclass(frozen=True, slots=True)
class _WholeFile:
    data: bytes
    mtime: int | None
    is_consistent: bool


def _read_whole(content: Content) -> _WholeFile | None:
    """A file read in one go; None if it is too large for that."""
    for _attempt in range(_MAX_READS):
        with content.open() as stream:
            if stream.size > _MAX_BUFFERED_SIZE:
                return None
            whole = _WholeFile(stream.read(stream.size), stream.mtime, stream.is_consistent())
        if whole.is_consistent:
            break
    return whole


class _ReadingFailed(Exception):
    """Distinguishes a read error from a write error."""

    def __init__(self, error: OSError | FormatError) -> None:
        self.error = error
        self.reason = error.message if isinstance(error, FormatError) else error.strerror or str(error)


def _read_pieces(stream: Stream, size: int) -> Iterator[bytes]:
    """The data up to a size, or to the file's end if that comes first."""
    while size > 0:
        hole = min(stream.hole_size(), size, _CHUNK_SIZE)
        if hole:
            stream.skip(hole)
            piece = _ZEROS[:hole]
        else:
            try:
                piece = stream.read(min(size, _CHUNK_SIZE))
            except (OSError, FormatError) as error:
                raise _ReadingFailed(error) from error
            if not piece:
                return
        size -= len(piece)
        yield piece
