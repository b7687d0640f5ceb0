"""What all kinds of snapshots have in common: a mount before, and what is read instead of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from ltsp.errors import SourceError
from ltsp.host.mount_table import Mount
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
"""What a mount of ours does not do: nothing in a source is to be run, or used as a device."""
READ_ONLY = PRIVATE | MOUNT_ATTR_RDONLY

MountSelection = Callable[[str, str], Inclusion]
"""What becomes of a directory, by its path in the tree and that of the mount which it lies in."""


@dataclass(frozen=True, slots=True)
class SnapshotBase:
    """A mount that is taken in, as it is read without a snapshot."""

    path: str
    """In the tree."""
    mount: Mount
    root: RootDirectory
    """What is taken of it, which may be a directory below its mount point."""
    inner: bytes
    """That directory in the file system; for btrfs, from its topmost subvolume on."""


def _never_invalid() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What is read from a snapshot, or belongs to one and is read as it is."""

    path: str
    """In the tree."""
    kind: str
    """Empty where it is no snapshot: of a directory that stays empty, its own attributes are all that is read."""
    origin: str
    """What it is a snapshot of; not safe to print."""
    root: RootDirectory
    device: int
    """Of the live files; those of the snapshot have another number, and the same inodes."""
    live_reason: str = ""
    """Why it is no snapshot, where it is read all the same."""
    invalid_reason: Callable[[], str] = _never_invalid
    """Why it cannot be trusted any more; empty while it can."""


def open_snapshot_root(mounted: int, inner: bytes, base: RootDirectory) -> RootDirectory:
    """The directory of a snapshot that a live one has become. `mounted` becomes the root's, or is closed.

    Raises SourceError where it was moved just before.
    """
    try:
        with RootDirectory(mounted) as whole:
            found = RootDirectory(
                os.open(b"/proc/self/fd/%d" % whole.directory(inner).number, os.O_PATH | os.O_CLOEXEC)
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
    return SourceError(f"{printable(os.fsdecode(base.path()))} was moved a moment ago", "try again")
