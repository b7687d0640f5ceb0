"""The interface of a source: a name, a plan that can be shown before any work, and the tree; and what sources share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ltsp.tree.faults import Faults
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A part of a source and what happens to it. Texts contain raw names: not safe to print."""

    path: str
    """Relative to the root of the tree; the root itself is the empty path."""
    description: str
    """What is there: `ext4 on /dev/sda2`, `/srv/ltsp/lab`."""
    reason: str = ""
    """Why it is left out, or included although it is a separate file system."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part that is read from a snapshot."""

    path: str
    """Relative to the root of the tree; a nested subvolume has its own."""
    kind: str
    """`btrfs`, `lvm` or `zfs`."""
    origin: str
    """What it is a snapshot of: a device, volume or dataset; not safe to print."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a source consists of. The root is always included."""

    included: tuple[SourcePart, ...]
    left_out: tuple[SourcePart, ...] = ()
    """Directories that are empty in the tree, and files and output directories that are excluded from it."""
    warnings: tuple[str, ...] = ()
    """One line each, safe to print."""
    reader: str = ""
    """What reads the file systems of a disk: `user` for our own code, `kernel` for that and the kernel, `auto` if not
    known yet; empty if there is no choice."""
    snapshots: tuple[Snapshot, ...] = ()
    """The snapshots that the opened source is, or was, read from."""
    live_parts: tuple[SourcePart, ...] = ()
    """Parts that could have been read from a snapshot but are not, with the reason."""
    is_frozen: bool = False
    """Nothing that is included can change while the opened source is read."""
    invalid_reason: str = ""
    """Why data read from a snapshot is invalid, as of this call of plan(); empty if it is valid."""


class Source(Protocol):
    """Something that provides a tree."""

    @property
    def name(self) -> str:
        """The image's name."""
        ...

    @property
    def description(self) -> str:
        """For people: `chroot /srv/ltsp/lab`. The path is as the user gave it: not safe to print."""
        ...

    @property
    def kind(self) -> str:
        """The kind of its first part, in a word that scripts may rely on: `directory`, `squashfs`."""
        ...

    def plan(self) -> Plan:
        """What would be included. Opens nothing below the source."""
        ...

    def peek_tree(self, selection: Selection) -> AbstractContextManager[Tree | None]:
        """The tree that a selection includes, without opening the source; unreadable entries are missing. None if that
        would be as much work as opening it.
        """
        ...

    def open(self, selection: Selection, faults: Faults) -> AbstractContextManager[Tree]:
        """The tree, which can be read until the context ends.

        Raises SourceError and FormatError.
        """
        ...

    def lock_package_manager(self, timeout: float, on_wait: Callable[[str], None]) -> AbstractContextManager[list[str]]:
        """Keep the source's package manager from changing it until the block ends; yields notes, a line each.

        `on_wait` is called once, with a line that names the holder, if another process has the lock. Raises LockHeld
        after `timeout` seconds.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceWrapper:
    """A source that is as another one, but for the methods that a subclass has of its own."""

    base: Source

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def description(self) -> str:
        return self.base.description

    @property
    def kind(self) -> str:
        return self.base.kind

    def plan(self) -> Plan:
        return self.base.plan()

    def peek_tree(self, selection: Selection) -> AbstractContextManager[Tree | None]:
        return self.base.peek_tree(selection)

    def open(self, selection: Selection, faults: Faults) -> AbstractContextManager[Tree]:
        return self.base.open(selection, faults)

    def lock_package_manager(self, timeout: float, on_wait: Callable[[str], None]) -> AbstractContextManager[list[str]]:
        return self.base.lock_package_manager(timeout, on_wait)


class SelfContainedSource:
    """What sources in a file have in common: no package manager runs in them, and their tree takes as much work as
    opening them.
    """

    __slots__ = ()

    def peek_tree(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - of the interface
        return nullcontext()

    def lock_package_manager(
        self,
        timeout: float,  # noqa: ARG002 - of the interface
        on_wait: Callable[[str], None],  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[list[str]]:
        return nullcontext([])


OpenImage = Callable[[str, ExitStack], Source]
"""Finds the source in an image file of the host, by path; what it keeps for its opening ends with the stack."""


class Kept(Generic[_Kept]):
    """What a source keeps between its plan and its opening: the process that reads it.

    It ends with who takes it, or if nobody does, with the plan.
    """

    __slots__ = ("_opened", "_value")

    def __init__(self, value: _Kept, opened: ExitStack, plan: ExitStack) -> None:
        """`opened` ends it."""
        self._value: _Kept | None = value
        self._opened = opened
        plan.callback(self._drop)

    def take(self, opened: ExitStack) -> _Kept | None:
        """Have it end with `opened`. None if it was taken before, or has ended."""
        value, self._value = self._value, None
        if value is not None:
            opened.enter_context(self._opened)
        return value

    def _drop(self) -> None:
        if self._value is not None:
            self._value = None
            self._opened.close()
