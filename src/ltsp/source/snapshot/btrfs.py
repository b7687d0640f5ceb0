"""Snapshots of btrfs: of the subvolume that a source lies in, and of each one nested in it that is taken in.

They lie in the topmost subvolume, below `.ltsp-snapshots`, in a directory for each run, whose lock (flock(2)) dies with
the run: what is not locked was forgotten, and goes with the next run. All of it is reached through mounts that are in
no mount namespace.
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
from ltsp.source.cleanup import remove_at_exit
from ltsp.source.snapshot.frozen import PRIVATE, READ_ONLY, Frozen, MountSelection, SnapshotBase, open_snapshot_root
from ltsp.tree.name import decode, printable
from ltsp.tree.selection import Inclusion

SNAPSHOT_DIR = ".ltsp-snapshots"
_SNAPSHOT_DIR = SNAPSHOT_DIR.encode()
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 16
"""Another run may remove the empty place before ours is in it, or take a new directory for a forgotten one."""


@contextmanager
def take_snapshot(base: SnapshotBase, wanted: MountSelection) -> Iterator[Sequence[Frozen]]:
    """Roots to read instead of a mount, and instead of each subvolume nested in it.

    Raises OSError and SourceError.
    """
    where = btrfs.find_subvolume(base.root.directory(b"").number)
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
                # Between the snapshot of the outer one, where it may be an empty directory, and its turn.
                raise SourceError(f"its subvolume /{printable(part.path)} was removed a moment ago") from error
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
    """Where a live source would show the snapshots: only where it is the topmost subvolume itself; else empty."""
    if base.mount.kind != "btrfs" or base.inner:
        return ""
    return f"{base.path}/{SNAPSHOT_DIR}" if base.path else SNAPSHOT_DIR


@dataclass(frozen=True, slots=True)
class _Subvolume:
    """A subvolume to be taken."""

    path: str
    """In the tree, of the directory that is taken in."""
    subvolume: int
    inner: bytes
    """That directory in the subvolume."""


@dataclass(frozen=True, slots=True)
class _BtrfsFileSystem:
    """A btrfs, of which each subvolume can be mounted."""

    device: bytes

    @classmethod
    def of(cls, base: SnapshotBase) -> _BtrfsFileSystem:
        """Raises OSError where none of the names of its devices leads to it here."""
        directory = base.root.directory(b"").number
        identity = btrfs.read_uuid(directory)
        failure = OSError(errno.ENODEV, "its device is not found here")
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
            yield root.directory(b"").number


@dataclass(frozen=True, slots=True)
class _SnapshotResult:
    """What is read instead of a subvolume."""

    subvolume: int
    device: int
    """Of the live files."""
    kind: str
    live_reason: str = ""
    nested: Sequence[_Subvolume] = ()


def _snapshot_subvolume(
    disk: _BtrfsFileSystem, place: int, name: bytes, part: _Subvolume, take: Inclusion
) -> _SnapshotResult:
    """The snapshot, or the subvolume itself where it stays empty in the tree or can have no snapshot."""
    with disk.open_subvolume(part.subvolume) as origin:
        device = os.fstat(origin).st_dev
        if take is Inclusion.EMPTIED:
            return _SnapshotResult(part.subvolume, device, "")
        # Nested ones are asked for twice: one that comes or goes at this moment is in one of the answers.
        nested = {each.path: each.subvolume for each in btrfs.list_nested(origin)}
        try:
            btrfs.create_snapshot(origin, place, name)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            subvolume, kind, against = part.subvolume, "", "it holds a swap file that is in use"
        else:
            subvolume, kind, against = _find_subvolume_id(name, place), "btrfs", ""
        nested |= {each.path: each.subvolume for each in btrfs.list_nested(origin)}
    above = part.inner + b"/" if part.inner else b""
    below = part.path and part.path + "/"
    parts = [
        _Subvolume(below + decode(path.removeprefix(above)), number, b"")
        for path, number in nested.items()
        if path.startswith(above)
    ]
    return _SnapshotResult(subvolume, device, kind, against, parts)


def _find_subvolume_id(name: bytes, directory: int) -> int:
    with ExitStack() as opened:
        return btrfs.find_subvolume(_open_directory(name, directory, opened)).subvolume


@contextmanager
def _make_run_directory(top: int) -> Iterator[int]:
    """A new directory for the snapshots of this run, which goes with all that is in it."""
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
    raise OSError(errno.EAGAIN, "other runs make and remove snapshots there all the time")


def _remove_orphans(above: int) -> None:
    """Remove the snapshots of runs that were killed: nobody has the lock of their directory."""
    for name in map(os.fsencode, os.listdir(above)):
        with ExitStack() as opened, suppress(OSError):  # another run removes it just now, or has it
            fcntl.flock(_open_directory(name, above, opened), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_run_directory(above, name)


def _remove_run(top: int, above: int, name: bytes) -> None:
    """Remove the place of a run, and that of all runs where it was the last one."""
    _remove_run_directory(above, name)
    with _keep_mtime(top), suppress(OSError):  # other runs may have theirs in it
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
        raise SourceError(f"{SNAPSHOT_DIR} at the top of its btrfs is no directory") from error


def _check_owner(place: int) -> None:
    status = os.fstat(place)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SourceError(f"{SNAPSHOT_DIR} at the top of its btrfs is not ours: others may write or read there")


@contextmanager
def _keep_mtime(directory: int) -> Iterator[None]:
    """The directory's time of change stays as it was: a source that is the top itself is not changed by being read."""
    before = os.fstat(directory)
    yield
    if os.fstat(directory).st_mtime_ns != before.st_mtime_ns:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
