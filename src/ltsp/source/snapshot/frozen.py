"""Types common to all kinds of snapshots: the mount, and what is read in its place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from ltsp.errors import SourceError
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

PRIVATE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME
"""Flags of our private mounts: nothing in a source may be executed, or used as a device."""
READ_ONLY = PRIVATE | MOUNT_ATTR_RDONLY

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
    inner: bytes
    """The path of that directory in the file system; for btrfs, from its top-level subvolume."""


def _never_invalid() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Frozen:
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
    live_reason: str = ""
    """Why it is read live; empty for a snapshot."""
    invalid_reason: Callable[[], str] = _never_invalid
    """Why it can no longer be trusted; empty while it can."""


def open_snapshot_root(mounted: int, inner: bytes, base: RootDirectory) -> RootDirectory:
    """The directory of a snapshot that corresponds to a live one. Takes ownership of `mounted`.

    Raises SourceError if the directory was moved just before.
    """
    try:
        with RootDirectory(mounted) as whole:
            found = RootDirectory(
                os.open(b"/proc/self/fd/%d" % whole.open_directory(inner).number, os.O_PATH | os.O_CLOEXEC)
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
