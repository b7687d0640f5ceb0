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
    PRIVATE,
    READ_ONLY,
    Frozen,
    MountSelection,
    SnapshotBase,
    open_snapshot_root,
    remove_at_exit,
)
from ltsp.tree.name import decode, printable
from ltsp.tree.selection import Inclusion

SNAPSHOT_DIR = ".ltsp-snapshots"
_SNAPSHOT_DIR = SNAPSHOT_DIR.encode()
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 16
"""Another run may remove the empty parent before our directory is in it, or mistake a new directory for an orphan."""


@contextmanager
def take_snapshot(base: SnapshotBase, wanted: MountSelection) -> Iterator[Sequence[Frozen]]:
    """Roots to read in place of a mount, and of each subvolume nested in it.

    Raises OSError and SourceError.
    """
    where = btrfs.find_subvolume(base.root.open_directory(b"").number)
    disk = _BtrfsFileSystem.of(base)
    with ExitStack() as opened:
        place = opened.enter_context(_make_run_directory(opened.enter_context(disk.open_subvolume(btrfs.TOP))))
        frozen_mounts: list[Frozen] = []
        pending = [_Subvolume(base.path, where.subvolume, where.path)]
        while pending:
            part = pending.pop()
            take = wanted(part.path, base.path) if frozen_mounts else Inclusion.ALL
            if take is Inclusion.NOTHING:
                continue
            try:
                found = _snapshot_subvolume(disk, place, b"%d" % len(frozen_mounts), part, take)
                mounted = disk.mount(found.subvolume, READ_ONLY)
            except FileNotFoundError as error:
                # Between the snapshot of the outer subvolume, where it is an empty directory, and its own.
                raise SourceError(f"its subvolume /{printable(part.path)} was just removed") from error
            if found.live_reason and not frozen_mounts:
                os.close(mounted)
                raise SourceError(found.live_reason)
            root = opened.enter_context(
                RootDirectory(mounted) if frozen_mounts else open_snapshot_root(mounted, part.inner, base.root)
            )
            frozen_mounts.append(
                Frozen(part.path, found.kind, decode(disk.device), root, found.device, found.live_reason)
            )
            pending += found.nested
        yield frozen_mounts


def find_own_snapshot_dir(base: SnapshotBase) -> str:
    """The path of the snapshots in a live source that is the top-level subvolume itself; else empty."""
    if base.mount.kind != "btrfs" or base.inner:
        return ""
    return f"{base.path}/{SNAPSHOT_DIR}" if base.path else SNAPSHOT_DIR


@dataclass(frozen=True, slots=True)
class _Subvolume:
    """A subvolume to snapshot."""

    path: str
    """In the tree, of the included directory."""
    subvolume: int
    inner: bytes
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
            disk = cls(device)
            try:
                with disk.open_subvolume(btrfs.TOP) as top:
                    if btrfs.read_uuid(top) == identity:
                        return disk
            except OSError as error:
                failure = error
        raise failure

    def mount(self, subvolume: int, attributes: int) -> int:
        return create_mount(b"btrfs", self.device, {b"subvolid": b"%d" % subvolume}, attributes)

    @contextmanager
    def open_subvolume(self, subvolume: int) -> Iterator[int]:
        """Its root directory, in which snapshots can be made."""
        with RootDirectory(self.mount(subvolume, PRIVATE)) as root:
            yield root.open_directory(b"").number


@dataclass(frozen=True, slots=True)
class _SnapshotResult:
    """What is read in place of a subvolume."""

    subvolume: int
    device: int
    """Of the live files."""
    kind: str
    live_reason: str = ""
    nested: Sequence[_Subvolume] = ()


def _snapshot_subvolume(
    disk: _BtrfsFileSystem, place: int, name: bytes, part: _Subvolume, take: Inclusion
) -> _SnapshotResult:
    """The snapshot, or the subvolume itself if it stays empty in the tree or cannot have a snapshot."""
    with disk.open_subvolume(part.subvolume) as origin:
        device = os.fstat(origin).st_dev
        if take is Inclusion.EMPTIED:
            return _SnapshotResult(part.subvolume, device, "")
        # Nested ones are listed twice, so that one created or removed at this moment is in one of the lists.
        nested = {each.path: each.subvolume for each in btrfs.list_nested(origin)}
        try:
            btrfs.create_snapshot(origin, place, name)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            subvolume, kind, against = part.subvolume, "", "it contains an active swap file"
        else:
            subvolume, kind, against = _find_subvolume_id(name, place), "btrfs", ""
        nested |= {each.path: each.subvolume for each in btrfs.list_nested(origin)}
    prefix = part.inner + b"/" if part.inner else b""
    below = part.path and part.path + "/"
    parts = [
        _Subvolume(below + decode(path.removeprefix(prefix)), number, b"")
        for path, number in nested.items()
        if path.startswith(prefix)
    ]
    return _SnapshotResult(subvolume, device, kind, against, parts)


def _find_subvolume_id(name: bytes, directory: int) -> int:
    with ExitStack() as opened:
        return btrfs.find_subvolume(_open_directory(name, directory, opened)).subvolume


@contextmanager
def _make_run_directory(top: int) -> Iterator[int]:
    """A new directory for the snapshots of this run, removed with its contents at the end of the block."""
    for _ in range(_TRIES):
        with _keep_mtime(top), suppress(FileExistsError):
            os.mkdir(_SNAPSHOT_DIR, 0o700, dir_fd=top)
        with ExitStack() as opened:
            try:
                above = _open_snapshot_dir(top, opened)
                _check_owner(above)
                _remove_orphans(above)
                name = secrets.token_hex(8).encode()
                opened.enter_context(remove_at_exit(partial(_remove_run, top, above, name)))
                os.mkdir(name, 0o700, dir_fd=above)
                own = _open_directory(name, above, opened)
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(name, dir_fd=above)
            except (FileNotFoundError, BlockingIOError):
                continue
            yield own
            return
    raise OSError(errno.EAGAIN, "other runs keep creating and removing snapshots there")


def _remove_orphans(above: int) -> None:
    """Remove the snapshots of runs that were killed: nobody has the lock of their directory."""
    for name in map(os.fsencode, os.listdir(above)):
        with ExitStack() as opened, suppress(OSError):  # another run is removing it, or is using it
            fcntl.flock(_open_directory(name, above, opened), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_run_directory(above, name)


def _remove_run(top: int, above: int, name: bytes) -> None:
    """Remove the directory of a run, and their parent if it was the last one."""
    _remove_run_directory(above, name)
    with _keep_mtime(top), suppress(OSError):  # other runs may still use it
        os.rmdir(_SNAPSHOT_DIR, dir_fd=top)


def _remove_run_directory(above: int, name: bytes) -> None:
    with ExitStack() as opened:
        try:
            directory = _open_directory(name, above, opened)
        except FileNotFoundError:
            return
        for snapshot in map(os.fsencode, os.listdir(directory)):
            btrfs.remove_subvolume(directory, snapshot)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=above)


def _open_directory(name: bytes, directory: int, opened: ExitStack) -> int:
    descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    opened.callback(os.close, descriptor)
    return descriptor


def _open_snapshot_dir(top: int, opened: ExitStack) -> int:
    try:
        return _open_directory(_SNAPSHOT_DIR, top, opened)
    except NotADirectoryError as error:
        raise SourceError(f"{SNAPSHOT_DIR} at the top level of the btrfs file system is not a directory") from error


def _check_owner(place: int) -> None:
    status = os.fstat(place)
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
