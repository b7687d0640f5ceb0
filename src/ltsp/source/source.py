"""What a place where trees come from offers: a name, a plan that can be shown before any work, and the tree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ltsp.tree.faults import Faults
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A part of a source and what becomes of it. Texts hold names as they are: not safe to print."""

    path: str
    """Relative to the root of the tree; the root itself is the empty path."""
    description: str
    """What lies there: `ext4 of /dev/sda2`, `/srv/ltsp/lab`."""
    reason: str = ""
    """Why it is left out, or taken in though it is apart."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part that is read from a snapshot."""

    path: str
    """Relative to the root of the tree, as that of a part; also of what is nested in one."""
    kind: str
    """`btrfs`, `lvm` or `zfs`."""
    of: str
    """What it is a snapshot of: a device, volume or dataset; not safe to print."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a source consists of. The root is always taken."""

    included: tuple[SourcePart, ...]
    left_out: tuple[SourcePart, ...] = ()
    """Directories that stay empty in the tree, and files and output directories that are not in it."""
    warnings: tuple[str, ...] = ()
    """One line each, safe to print: what the user should know before the work."""
    reader: str = ""
    """What reads the file systems of a disk: `user` for our own code, `kernel` for that and the kernel, `auto` where
    that is not known before; empty where there is nothing to be chosen."""
    snapshots: tuple[Snapshot, ...] = ()
    """Those that the opened source is, or was, read from."""
    read_live: tuple[SourcePart, ...] = ()
    """Parts that could have been read from a snapshot and are not, with the reason."""
    is_frozen: bool = False
    """Nothing that is taken in changes while the opened source is read."""
    invalid_reason: str = ""
    """Why what was read of a snapshot makes no whole, asked when the plan is; empty where it does."""


class Source(Protocol):
    """Where a tree comes from."""

    @property
    def name(self) -> str:
        """The image's name."""
        ...

    @property
    def description(self) -> str:
        """What it is, for people: `chroot /srv/ltsp/lab`. The path is as it was given: not safe to print."""
        ...

    @property
    def kind(self) -> str:
        """What its first part is, in a word that scripts may rely on: `directory`, `squashfs`."""
        ...

    def plan(self) -> Plan:
        """What would be taken in. Nothing below the source is opened for it."""
        ...

    def outline(self, selection: Selection) -> AbstractContextManager[Tree | None]:
        """What a selection takes in, looked at before the source is opened; what may not be read is missing. None where
        to look is as much work as to open it.
        """
        ...

    def open(self, selection: Selection, faults: Faults) -> AbstractContextManager[Tree]:
        """The tree, which can be read until the context ends.

        Raises SourceError and FormatError.
        """
        ...

    def hold_packages(self, timeout: float, waiting: Callable[[str], None]) -> AbstractContextManager[list[str]]:
        """Keep the source's package manager from changing it meanwhile; yields notes, a line each.

        `waiting` is called once, with the holder, when another process has the lock. Raises LockHeld after `timeout`
        seconds.
        """
        ...
