"""Write a tree as a newc archive, which the kernel unpacks into its initramfs.

Documentation/driver-api/early-userspace/buffer-format.rst of Linux describes the format; its reader is in
init/initramfs.c. Entries are sorted by the bytes of their names and numbered in that order, so that one tree gives one
archive. A file's data is stored with its first name: the kernel links the other names immediately, GNU cpio and busybox
at the end.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, assert_never

from ltsp.cpio.header import MAX_NUMBER, MAX_PATH_SIZE, TRAILER, NewcHeader, padding
from ltsp.errors import FileChanged, FileUnreadable, LtspError
from ltsp.tree.content import ByteOutput, Stream
from ltsp.tree.name import encode, printable
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Node, Socket, Symlink, clamp_time
from ltsp.tree.tree import Tree

_CHUNK_SIZE: Final = 1 << 20
"""Bytes read at a time."""


@dataclass(slots=True)
class CpioResult:
    """Counts of what was written to an archive and what could not be."""

    entries: int = 0
    size: int = 0
    """Size of the archive in bytes."""
    xattrs: int = 0
    """Lost extended attributes, which newc cannot store."""
    clamped_times: int = 0
    """Times before 1970 or after 2106, which newc cannot store."""
    split_symlinks: int = 0
    """Additional names of symbolic links, which became separate links: the kernel does not hard-link those."""


def write_archive(tree: Tree, output: ByteOutput, existing_directories: Collection[str] = ()) -> CpioResult:
    """Write the tree, its root as `.`, and the trailer: a multiple of 4 bytes.

    `existing_directories` are paths of directories that are not written, for an archive that is unpacked over
    others: if one of those has a link of that name, the kernel would replace it with a directory. It ignores files
    without a directory.

    Raises LtspError, before anything is written, for nodes that the kernel would silently ignore or newc cannot store
    (files of 4 GiB, paths and targets longer than 4095 bytes); FileUnreadable and FileChanged if a file cannot be read
    as it was scanned; and whatever `output.write` raises.
    """
    name_counts = _check_and_count_links(tree)
    archive = _ArchiveWriter(output, name_counts)
    for path, node in _walk_with_root(tree):
        if path not in existing_directories:
            archive.add(path, node)
    archive.write_trailer()
    return archive.result


def _walk_with_root(tree: Tree) -> Iterator[tuple[str, Node]]:
    yield "", tree.root
    yield from tree.walk()


def _check_and_count_links(tree: Tree) -> dict[int, int]:
    """The number of names of each node, by its id.

    Raises LtspError if a node does not fit.
    """
    name_counts: dict[int, int] = {}
    for path, node in _walk_with_root(tree):
        name_counts[id(node)] = name_counts.get(id(node), 0) + 1
        if len(encode(path)) > MAX_PATH_SIZE:
            raise LtspError(
                f"/{printable(path[:60])}… has a path of more than {MAX_PATH_SIZE} bytes, the limit of an initrd"
            )
        if isinstance(node, Symlink) and len(encode(node.target)) > MAX_PATH_SIZE:
            raise LtspError(f"the target of the link /{printable(path)} is longer than {MAX_PATH_SIZE} bytes")
        if isinstance(node, File):
            _check_size(path, node.content.size)
    return name_counts


def _check_size(path: str, size: int) -> None:
    if size > MAX_NUMBER:
        raise LtspError(
            f"/{printable(path)} is {size >> 30} GiB large; files in an initrd must be smaller than 4 GiB",
            "exclude it, or put it where clients can download it",
        )


class _ArchiveWriter:
    def __init__(self, output: ByteOutput, name_counts: dict[int, int]) -> None:
        self._output = output
        self._name_counts = name_counts
        self._inodes: dict[int, int] = {}
        self._next_inode = 1
        self.result = CpioResult()

    def add(self, path: str, node: Node) -> None:
        known = self._inodes.get(id(node))
        if known is not None and not isinstance(node, Symlink):
            self._write_header(path, node, inode=known)
            return
        self.result.split_symlinks += known is not None
        self.result.xattrs += len(node.metadata.xattrs)
        inode = self._inodes[id(node)] = self._next_inode
        self._next_inode += 1
        match node:
            case File():
                self._add_file(path, node, inode)
            case Symlink():
                target = encode(node.target)
                self._write_header(path, node, inode=inode, size=len(target))
                self._write(target + padding(len(target)))
            case Directory() | Device() | Fifo() | Socket():
                self._write_header(path, node, inode=inode)
            case _:
                assert_never(node)
        self.result.clamped_times += node.metadata.mtime != clamp_time(node.metadata.mtime)

    def write_trailer(self) -> None:
        self._write(NewcHeader(name=TRAILER, links=1).pack())

    def _add_file(self, path: str, file: File, inode: int) -> None:
        with ExitStack() as opened:
            try:
                stream = opened.enter_context(file.content.open())
            except OSError as error:
                raise _unreadable_error(path, error) from error
            size = stream.size
            _check_size(path, size)
            self._write_header(path, file, inode=inode, size=size, mtime=stream.mtime)
            for piece in _read_pieces(path, stream, size):
                self._write(piece)
            if not stream.is_consistent():
                raise _changed_error(path)
        self._write(padding(size))

    def _write_header(self, path: str, node: Node, *, inode: int, size: int = 0, mtime: int | None = None) -> None:
        metadata = node.metadata
        kind = _file_type(node)
        self.result.entries += 1
        self._write(
            NewcHeader(
                name=_encode_name(path),
                inode=inode,
                mode=kind | metadata.mode,
                uid=metadata.uid,
                gid=metadata.gid,
                links=_count_links(node, self._name_counts[id(node)]),
                mtime=clamp_time(metadata.mtime if mtime is None else mtime),
                size=size,
                major=node.major if isinstance(node, Device) else 0,
                minor=node.minor if isinstance(node, Device) else 0,
            ).pack()
        )

    def _write(self, data: bytes) -> None:
        self._output.write(data)
        self.result.size += len(data)


def _encode_name(path: str) -> bytes:
    name = encode(path) or b"."
    # A file with this name at the top would end the archive for every reader; another spelling does not.
    return b"./" + name if name == TRAILER else name


def _count_links(node: Node, name_count: int) -> int:
    """The link count as in usr/gen_init_cpio.c of Linux, except for hard links."""
    match node:
        case Directory():
            return 2
        case Symlink():
            return 1
        case _:
            return name_count


def _file_type(node: Node) -> int:
    match node:
        case Directory():
            return stat.S_IFDIR
        case File():
            return stat.S_IFREG
        case Symlink():
            return stat.S_IFLNK
        case Device(kind=kind):
            return stat.S_IFBLK if kind is DeviceKind.BLOCK else stat.S_IFCHR
        case Fifo():
            return stat.S_IFIFO
        case Socket():
            return stat.S_IFSOCK
        case _:
            assert_never(node)


def _read_pieces(path: str, stream: Stream, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes.

    Raises FileChanged if there are fewer, FileUnreadable if they cannot be read.
    """
    while size:
        try:
            piece = stream.read(min(size, _CHUNK_SIZE))
        except OSError as error:
            raise _unreadable_error(path, error) from error
        if not piece:
            raise _changed_error(path)
        size -= len(piece)
        yield piece


def _changed_error(path: str) -> FileChanged:
    return FileChanged(f"/{printable(path)} changed while it was being read", "try again when nothing writes to it")


def _unreadable_error(path: str, error: OSError) -> FileUnreadable:
    return FileUnreadable(f"cannot read /{printable(path)}: {error.strerror or error}")
