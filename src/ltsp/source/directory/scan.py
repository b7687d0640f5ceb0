"""The tree of a directory of the host: one pass over its entries, each examined relative to its directory's descriptor.

A directory that the selection empties or leaves out is never opened, and only directories are opened at all:
contents are read later (see host_file).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ltsp.errors import FileUnreadable
from ltsp.host.root import RootDirectory
from ltsp.source.directory.host_file import VANISHED_ERRNOS, HostDirectory, HostFile
from ltsp.tree.faults import Faults
from ltsp.tree.name import byte_sort_key, encode, from_os
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_NS_PER_SECOND = 1_000_000_000
"""In nanoseconds; the division rounds down, as squashfs and stat(1) do for times before 1970."""

Xattrs = tuple[tuple[str, bytes], ...]

_NO_XATTRS = frozenset({errno.ENOTSUP, errno.ENODATA, errno.ENOSYS})
"""The file system does not support them, or the attribute was just removed."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """How the scan treats a directory on which something is mounted."""

    root: RootDirectory | None = None
    """The root of the mount, if it belongs to the tree; otherwise the directory stays empty."""
    metadata: Metadata | None = None
    """Metadata to use if examining the directory would contact a server or daemon that may not respond."""
    use_root_metadata: bool = False
    """Take the metadata from the root even if the directory stays empty: that in a snapshot is synthetic."""


@dataclass(frozen=True, slots=True)
class _ScanJob:
    """A directory to be scanned."""

    host_directory: HostDirectory
    path: str
    """In the tree."""
    name: str
    siblings: dict[str, Node]
    """The entries of its parent, which it is added to."""


@dataclass(slots=True)
class Scan:
    """One scan, without recursion: a source may nest deeper than the interpreter's stack or the descriptor limit."""

    selection: Selection
    faults: Faults
    mounts: Mapping[str, MountPoint] = field(default_factory=dict)
    """By path in the tree."""
    mounts_cloned: bool = False
    """The roots are copies of single mounts, so a file on which something is mounted is visible itself."""
    excluded_inodes: Collection[tuple[int, int]] = ()
    """Directories that are left out wherever they appear, by device and inode."""
    _jobs: list[_ScanJob] = field(default_factory=list)
    _links: dict[tuple[int, int, int], Node] = field(default_factory=dict)
    """Nodes with several hard links, by device, inode and type."""
    _metadata: dict[tuple[int, int, int, int, Xattrs], Metadata] = field(default_factory=dict)
    """Shared, since most files of a system have the same metadata as others."""
    _mount_names: frozenset[str] = frozenset()

    def run(self, root: RootDirectory) -> Tree:
        """The tree from this root on.

        Raises FileUnreadable.
        """
        self._mount_names = frozenset(path.rpartition("/")[2] for path in self.mounts)
        top: dict[str, Node] = {}
        self._jobs.append(_ScanJob(HostDirectory(root, b""), "", "", top))
        while self._jobs:
            job = self._jobs.pop()
            try:
                self._scan(job)
            except OSError as error:
                if not job.path:
                    hint = "run as root" if isinstance(error, PermissionError) else ""
                    raise FileUnreadable(f"cannot read the source: {error.strerror}", hint) from error
                self._note(job.path, error)
        directory = top[""]
        assert isinstance(directory, Directory)
        return Tree(directory)

    def _scan(self, job: _ScanJob) -> None:
        descriptor = job.host_directory.root.open_directory(job.host_directory.path)
        fd = descriptor.number
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in self.excluded_inodes and job.path:
            return
        entries: dict[str, Node] = {}
        directory = Directory(self._share_metadata(status, _read_xattrs(fd)), entries)
        prefix = job.path and job.path + "/"
        with os.scandir(fd) as listing:
            for entry in listing:
                name = from_os(entry.name)
                path = prefix + name
                try:
                    node = self._make_entry_node(job.host_directory, fd, entry, name, path, entries)
                except OSError as error:
                    self._note(path, error)
                else:
                    if node is not None:
                        entries[name] = node
        job.siblings[job.name] = directory

    def _make_entry_node(
        self,
        host_directory: HostDirectory,
        directory: int,
        entry: os.DirEntry[str],
        name: str,
        path: str,
        entries: dict[str, Node],
    ) -> Node | None:
        """The node of an entry; None if it is left out, or a directory that will join the entries later."""
        mounted = self.mounts.get(path) if name in self._mount_names else None
        # On a file system that does not store types in directories, is_dir() has to stat the entry.
        is_directory = (mounted is not None and mounted.metadata is not None) or entry.is_dir(follow_symlinks=False)
        inclusion = self.selection(path, is_directory)
        if inclusion is Inclusion.NOTHING:
            return None
        if is_directory:
            if mounted is not None and mounted.metadata is not None:
                return Directory(mounted.metadata)
            if mounted is not None and mounted.root is not None and inclusion is Inclusion.ALL:
                self._jobs.append(_ScanJob(HostDirectory(mounted.root, b""), path, name, entries))
                return None
            if mounted is not None and mounted.root is not None and mounted.use_root_metadata:
                fd = mounted.root.open_directory(b"").number
                return Directory(self._share_metadata(os.fstat(fd), _read_xattrs(fd)))
            if mounted is None and inclusion is Inclusion.ALL:
                raw = encode(name)
                below = host_directory.path + b"/" + raw if host_directory.path else raw
                self._jobs.append(_ScanJob(HostDirectory(host_directory.root, below), path, name, entries))
                return None
        elif mounted is not None and not self.mounts_cloned:
            return None
        status = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        shared = status.st_nlink > 1 and kind != stat.S_IFDIR
        if shared:
            known = self._links.get((status.st_dev, status.st_ino, kind))
            if known is not None:
                return known
        metadata = self._share_metadata(status, _read_xattrs(f"/proc/self/fd/{directory}/{entry.name}"))
        node = _make_node(kind, metadata, status, host_directory, directory, entry.name)
        if shared:
            self._links[status.st_dev, status.st_ino, kind] = node
        return node

    def _note(self, path: str, error: OSError) -> None:
        if error.errno in VANISHED_ERRNOS:
            self.faults.note_vanished(path)
        else:
            self.faults.note_unreadable(path, error)

    def _share_metadata(self, status: os.stat_result, xattrs: Xattrs) -> Metadata:
        key = (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns // _NS_PER_SECOND, xattrs)
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = self._metadata[key] = Metadata(*key)
        return metadata


def _make_node(
    kind: int, metadata: Metadata, status: os.stat_result, host_directory: HostDirectory, directory: int, os_name: str
) -> Node:
    match kind:
        case stat.S_IFREG:
            seen = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            stored = min(status.st_size, status.st_blocks * 512)
            return File(metadata, HostFile(host_directory, from_os(os_name), *seen, stored))
        case stat.S_IFLNK:
            return Symlink(metadata, from_os(os.readlink(os_name, dir_fd=directory)))
        case stat.S_IFDIR:
            return Directory(metadata)
        case stat.S_IFBLK | stat.S_IFCHR:
            device = DeviceKind.BLOCK if kind == stat.S_IFBLK else DeviceKind.CHARACTER
            return Device(metadata, device, os.major(status.st_rdev), os.minor(status.st_rdev))
        case stat.S_IFIFO:
            return Fifo(metadata)
        case _:
            return Socket(metadata)


def _read_xattrs(file: int | str) -> Xattrs:
    """All extended attributes, sorted by the bytes of their names; of a link itself, not its target.

    Raises OSError if they cannot be read: an image without the capabilities of its files would be wrong.
    """
    try:
        names = os.listxattr(file, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    found = []
    for name in names:
        try:
            found.append((from_os(name), os.getxattr(file, name, follow_symlinks=isinstance(file, int))))
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
    return tuple(sorted(found, key=lambda pair: byte_sort_key(pair[0]))) if found else ()
