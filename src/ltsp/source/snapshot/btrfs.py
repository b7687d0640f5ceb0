"""Snapshots of btrfs: of the subvolume that contains a source, and of each included subvolume nested in it.

They are in the top-level subvolume, below `.ltsp-snapshots`, in a directory for each run, whose lock (flock(2)) ends
with the run: the next run removes directories that are not locked. All of it is reached through mounts that are in no
mount namespace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from ltsp.errors import SourceError
from ltsp.host import btrfs
from ltsp.host.root import RootDirectory
from ltsp.host.system_call import create_mount
from ltsp.source.snapshot.frozen import (
    PRIVATE_MOUNT_FLAGS,
    READ_ONLY_MOUNT_FLAGS,
    FrozenMount,
    MountSelection,
    SnapshotBase,
    open_snapshot_root,
    remove_at_exit,
)
from ltsp.tree.name import decode, printable
from ltsp.tree.selection import Inclusion

SNAPSHOT_DIR = ".ltsp-snapshots"
_SNAPSHOT_DIR_BYTES = SNAPSHOT_DIR.encode()
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ATTEMPTS = 16
"""Another run may remove the empty parent before our directory is in it, or mistake a new directory for an orphan."""


@contextmanager
def take_snapshot(base: SnapshotBase, wanted: MountSelection) -> Iterator[Sequence[FrozenMount]]:
    """Roots to read in place of a mount, and of each subvolume nested in it.

    Raises OSError and SourceError.
    """
    location = btrfs.find_subvolume(base.root.open_directory(b"").number)
    file_system = _BtrfsFileSystem.of(base)
    with ExitStack() as stack:
        directory_fd = stack.enter_context(
            _make_run_directory(stack.enter_context(file_system.open_subvolume(btrfs.TOP_LEVEL_SUBVOLUME)))
        )
        frozen_mounts: list[FrozenMount] = []
        pending = [_Subvolume(base.path, location.subvolume_id, location.path)]
        while pending:
            part = pending.pop()
            inclusion = wanted(part.path, base.path) if frozen_mounts else Inclusion.ALL
            if inclusion is Inclusion.NOTHING:
                continue
            try:
                found = _snapshot_subvolume(file_system, directory_fd, b"%d" % len(frozen_mounts), part, inclusion)
                mount_fd = file_system.mount(found.subvolume_id, READ_ONLY_MOUNT_FLAGS)
            except FileNotFoundError as error:
                # Between the snapshot of the outer subvolume, where it is an empty directory, and its own.
                raise SourceError(f"its subvolume /{printable(part.path)} was just removed") from error
            if found.no_snapshot_reason and not frozen_mounts:
                os.close(mount_fd)
                raise SourceError(found.no_snapshot_reason)
            root = stack.enter_context(
                RootDirectory(mount_fd) if frozen_mounts else open_snapshot_root(mount_fd, part.inner_path, base.root)
            )
            frozen_mounts.append(
                FrozenMount(
                    part.path, found.kind, decode(file_system.device), root, found.device, found.no_snapshot_reason
                )
            )
            pending += found.nested
        yield frozen_mounts


def find_snapshot_dir_in_source(base: SnapshotBase) -> str:
    """The path of the snapshots in a live source that is the top-level subvolume itself; else empty."""
    if base.mount.kind != "btrfs" or base.inner_path:
        return ""
    return f"{base.path}/{SNAPSHOT_DIR}" if base.path else SNAPSHOT_DIR


@dataclass(frozen=True, slots=True)
class _Subvolume:
    """A subvolume to snapshot."""

    path: str
    """In the tree, of the included directory."""
    subvolume_id: int
    inner_path: bytes
    """The path of that directory in the subvolume."""


@dataclass(frozen=True, slots=True)
class _BtrfsFileSystem:
    """A btrfs file system whose subvolumes can be mounted."""

    device: bytes

    @classmethod
    def of(cls, base: SnapshotBase) -> _BtrfsFileSystem:
        """Raises OSError if none of its device names leads to it, as in a container."""
        directory = base.root.open_directory(b"").number
        identity = btrfs.read_uuid(directory)
        failure = OSError(errno.ENODEV, "its device was not found")
        for device in dict.fromkeys((base.mount.source, *btrfs.list_devices(directory))):
            file_system = cls(device)
            try:
                with file_system.open_subvolume(btrfs.TOP_LEVEL_SUBVOLUME) as top:
                    if btrfs.read_uuid(top) == identity:
                        return file_system
            except OSError as error:
                failure = error
        raise failure

    def mount(self, subvolume_id: int, attributes: int) -> int:
        return create_mount(b"btrfs", self.device, {b"subvolid": b"%d" % subvolume_id}, attributes)

    @contextmanager
    def open_subvolume(self, subvolume_id: int) -> Iterator[int]:
        """Its root directory, in which snapshots can be made."""
        with RootDirectory(self.mount(subvolume_id, PRIVATE_MOUNT_FLAGS)) as root:
            yield root.open_directory(b"").number


@dataclass(frozen=True, slots=True)
class _SnapshotResult:
    """What is read in place of a subvolume."""

    subvolume_id: int
    device: int
    """Of the live files."""
    kind: str
    no_snapshot_reason: str = ""
    nested: Sequence[_Subvolume] = ()


def _snapshot_subvolume(
    file_system: _BtrfsFileSystem, directory_fd: int, name: bytes, part: _Subvolume, inclusion: Inclusion
) -> _SnapshotResult:
    """The snapshot, or the subvolume itself if it stays empty in the tree or cannot have a snapshot."""
    with file_system.open_subvolume(part.subvolume_id) as origin:
        device = os.fstat(origin).st_dev
        if inclusion is Inclusion.EMPTIED:
            return _SnapshotResult(part.subvolume_id, device, "")
        # Nested ones are listed twice, so that one created or removed at this moment is in one of the lists.
        nested = {each.path: each.subvolume_id for each in btrfs.list_nested_subvolumes(origin)}
        try:
            btrfs.create_snapshot(origin, directory_fd, name)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            subvolume_id, kind, no_snapshot_reason = part.subvolume_id, "", "it contains an active swap file"
        else:
            subvolume_id, kind, no_snapshot_reason = _find_subvolume_id(name, directory_fd), "btrfs", ""
        nested |= {each.path: each.subvolume_id for each in btrfs.list_nested_subvolumes(origin)}
    prefix = part.inner_path + b"/" if part.inner_path else b""
    tree_prefix = part.path and part.path + "/"
    parts = [
        _Subvolume(tree_prefix + decode(path.removeprefix(prefix)), number, b"")
        for path, number in nested.items()
        if path.startswith(prefix)
    ]
    return _SnapshotResult(subvolume_id, device, kind, no_snapshot_reason, parts)


def _find_subvolume_id(name: bytes, directory: int) -> int:
    with ExitStack() as stack:
        return btrfs.find_subvolume(_open_directory(name, directory, stack)).subvolume_id


@contextmanager
def _make_run_directory(top: int) -> Iterator[int]:
    """A new directory for the snapshots of this run, removed with its contents at the end of the block."""
    for _ in range(_MAX_ATTEMPTS):
        with _keep_mtime(top), suppress(FileExistsError):
            os.mkdir(_SNAPSHOT_DIR_BYTES, 0o700, dir_fd=top)
        with ExitStack() as stack:
            try:
                snapshot_dir_fd = _open_snapshot_dir(top, stack)
                _check_owner(snapshot_dir_fd)
                _remove_orphans(snapshot_dir_fd)
                name = secrets.token_hex(8).encode()
                stack.enter_context(remove_at_exit(partial(_remove_run, top, snapshot_dir_fd, name)))
                os.mkdir(name, 0o700, dir_fd=snapshot_dir_fd)
                run_dir_fd = _open_directory(name, snapshot_dir_fd, stack)
                fcntl.flock(run_dir_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(name, dir_fd=snapshot_dir_fd)
            except (FileNotFoundError, BlockingIOError):
                continue
            yield run_dir_fd
            return
    raise OSError(errno.EAGAIN, "other runs keep creating and removing snapshots there")


def _remove_orphans(snapshot_dir_fd: int) -> None:
    """Remove the snapshots of runs that were killed: nobody has the lock of their directory."""
    for name in map(os.fsencode, os.listdir(snapshot_dir_fd)):
        with ExitStack() as stack, suppress(OSError):  # another run is removing it, or is using it
            fcntl.flock(_open_directory(name, snapshot_dir_fd, stack), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_run_directory(snapshot_dir_fd, name)


def _remove_run(top: int, snapshot_dir_fd: int, name: bytes) -> None:
    """Remove the directory of a run, and their parent if it was the last one."""
    _remove_run_directory(snapshot_dir_fd, name)
    with _keep_mtime(top), suppress(OSError):  # other runs may still use it
        os.rmdir(_SNAPSHOT_DIR_BYTES, dir_fd=top)


def _remove_run_directory(snapshot_dir_fd: int, name: bytes) -> None:
    with ExitStack() as stack:
        try:
            directory = _open_directory(name, snapshot_dir_fd, stack)
        except FileNotFoundError:
            return
        for snapshot in map(os.fsencode, os.listdir(directory)):
            btrfs.remove_subvolume(directory, snapshot)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=snapshot_dir_fd)


def _open_directory(name: bytes, directory: int, stack: ExitStack) -> int:
    descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_snapshot_dir(top: int, stack: ExitStack) -> int:
    try:
        return _open_directory(_SNAPSHOT_DIR_BYTES, top, stack)
    except NotADirectoryError as error:
        raise SourceError(f"{SNAPSHOT_DIR} at the top level of the btrfs file system is not a directory") from error


def _check_owner(directory_fd: int) -> None:
    status = os.fstat(directory_fd)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SourceError(
            f"{SNAPSHOT_DIR} at the top level of the btrfs file system is accessible to other users",
            f"mount the file system with subvolid=5, and in it: chown root {SNAPSHOT_DIR}; chmod 700 {SNAPSHOT_DIR}",
        )


@contextmanager
def _keep_mtime(directory: int) -> Iterator[None]:
    """Restore the directory's mtime: reading a source that is the top-level subvolume must not change it."""
    before = os.fstat(directory)
    yield
    if os.fstat(directory).st_mtime_ns != before.st_mtime_ns:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
