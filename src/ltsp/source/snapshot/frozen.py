"""What all kinds of snapshots share: the mount, what is read in its place, and names, locks and removal of snapshots.

LVM and ZFS snapshots have a name that is locked while they are in use, which distinguishes them from orphans: the lock
is on a file of that name below /run, which is empty after a reboot; the kernel drops it if the run is killed.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

from ltsp.errors import LtspError, SourceError
from ltsp.host import locks
from ltsp.host.mounts import Mount
from ltsp.host.root import RootDirectory
from ltsp.host.system_call import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from ltsp.tree.name import printable
from ltsp.tree.selection import Inclusion

PRIVATE_MOUNT_FLAGS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME
"""Flags of our private mounts: nothing in a source may be executed, or used as a device."""
READ_ONLY_MOUNT_FLAGS = PRIVATE_MOUNT_FLAGS | MOUNT_ATTR_RDONLY

MountSelection = Callable[[str, str], Inclusion]
"""The inclusion of a directory, by its path in the tree and the path of its mount."""


@dataclass(frozen=True, slots=True)
class SnapshotBase:
    """An included mount, as it is read without a snapshot."""

    path: str
    """In the tree."""
    mount: Mount
    root: RootDirectory
    """The included directory, which may be below the mount point."""
    inner_path: bytes
    """The path of that directory in the file system; for btrfs, from its top-level subvolume."""


def _never_invalid() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class FrozenMount:
    """A root that is read from a snapshot, or belongs to one and is read live."""

    path: str
    """In the tree."""
    kind: str
    """Empty if it is not a snapshot: only the attributes of a directory that stays empty are read."""
    origin: str
    """The device, volume or dataset of the snapshot; not safe to print."""
    root: RootDirectory
    device: int
    """Device number of the live files; those of the snapshot have a different one, and the same inodes."""
    no_snapshot_reason: str = ""
    """Why it is read live; empty for a snapshot."""
    invalid_reason: Callable[[], str] = _never_invalid
    """Why it can no longer be trusted; empty while it can."""


def open_snapshot_root(mount_fd: int, inner_path: bytes, base: RootDirectory) -> RootDirectory:
    """The directory of a snapshot that corresponds to a live one. Takes ownership of `mount_fd`.

    Raises SourceError if the directory was moved just before.
    """
    try:
        with RootDirectory(mount_fd) as mount_root:
            found = RootDirectory(
                os.open(b"/proc/self/fd/%d" % mount_root.open_directory(inner_path).number, os.O_PATH | os.O_CLOEXEC)
            )
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise _moved_error(base) from error
    if os.fstat(found.descriptor).st_ino != os.fstat(base.descriptor).st_ino:
        found.close()
        raise _moved_error(base)
    return found


def _moved_error(base: RootDirectory) -> SourceError:
    return SourceError(f"{printable(os.fsdecode(base.path()))} was just moved", "try again")


@contextmanager
def remove_at_exit(remove: Callable[[], None]) -> Iterator[None]:
    """Call `remove` when the block ends. It is called twice, and must do nothing if there is nothing to remove.

    A signal may interrupt the first call; the second one then completes it.

    Raises SourceError if the removal failed and the block did not.
    """

    def end(_kind: type[BaseException] | None, failure: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            remove()
        except (OSError, LtspError) as error:
            if failure is None:
                reason = error.message if isinstance(error, LtspError) else str(error.strerror).lower()
                raise SourceError(f"cannot remove the snapshot: {reason}", "the next run will try again") from error

    with ExitStack() as stack:
        stack.push(end)
        stack.push(end)
        yield


LOCK_DIRECTORY = "/run/ltsp/snapshots"
_SNAPSHOT_NAME = re.compile(r"ltsp-[0-9a-f]{16}")


@contextmanager
def reserve_name() -> Iterator[str]:
    """A new name, reserved until the block ends."""
    os.makedirs(LOCK_DIRECTORY, mode=0o700, exist_ok=True)
    name = f"ltsp-{secrets.token_hex(8)}"
    with locks.hold_exclusive(f"{LOCK_DIRECTORY}/{name}"):
        try:
            yield name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(f"{LOCK_DIRECTORY}/{name}")


@contextmanager
def claim_orphan(name: str) -> Iterator[bool]:
    """Whether the snapshot was left by an LTSP run that is gone; no other process claims it within the block."""
    if not _SNAPSHOT_NAME.fullmatch(name):
        yield False
        return
    os.makedirs(LOCK_DIRECTORY, mode=0o700, exist_ok=True)
    try:
        with locks.hold_exclusive(f"{LOCK_DIRECTORY}/{name}"):
            yield True
            with suppress(FileNotFoundError):
                os.unlink(f"{LOCK_DIRECTORY}/{name}")
    except locks.LockBusy:
        yield False
