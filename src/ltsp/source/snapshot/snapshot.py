"""Mounts that stand still while they are read: which of them can, by what, and for how long.

Each kind of snapshot (btrfs_snapshot, lvm_snapshot, zfs_snapshot) takes one mount and gives roots to read instead of
it. They are taken one after the other: each is a moment of its mount, not of all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from ltsp.errors import LtspError, SourceError
from ltsp.host import mount_table
from ltsp.host.mount_table import Mount
from ltsp.host.root import Root
from ltsp.host.system_call import mount_id
from ltsp.inspection.mount_plan import description
from ltsp.source.snapshot import btrfs as btrfs_snapshot
from ltsp.source.snapshot import lvm as lvm_snapshot
from ltsp.source.snapshot import zfs as zfs_snapshot
from ltsp.source.snapshot.frozen import Live, Still, Wanted
from ltsp.source.source import Part, Snapshot
from ltsp.tree.name import printable

AUTO, NONE = "auto", "none"
KINDS = (AUTO, "btrfs", "lvm", "zfs", NONE)

_TAKEN: Mapping[str, Callable[[Live, Wanted], AbstractContextManager[Sequence[Still]]]] = {
    "btrfs": btrfs_snapshot.taken,
    "lvm": lvm_snapshot.taken,
    "zfs": zfs_snapshot.taken,
}


@dataclass(slots=True)
class Record:
    """What the last opening of a source came to; a plan that is shown after it tells what was done."""

    snapshots: tuple[Snapshot, ...] = ()
    refused: tuple[Part, ...] = ()
    """What was to be read from a snapshot and is not, with the reason."""
    whole: bool = False
    """All that is taken in is read from snapshots."""
    _stills: list[Still] = field(default_factory=list)

    def lost(self) -> str:
        """Why what was read of a snapshot is not to be trusted, asked now; empty where it is."""
        return next(filter(None, (still.lost() for still in self._stills)), "")

    @contextmanager
    def of(self, stills: Sequence[Still], refused: Sequence[Part], *, whole: bool) -> Iterator[None]:
        self.snapshots = tuple(Snapshot(still.path, still.kind, still.of) for still in stills if still.kind)
        self.refused = tuple(refused)
        self.whole = whole
        self._stills = list(stills)
        try:
            yield
        finally:
            self._stills = []


def own_mount(root: Root) -> Mount | None:
    """The mount that a directory lies in; None where the table does not show it, as for a process in a chroot."""
    return mount_table.holding(mount_table.read(), root.path(), mount_id(root.descriptor))


def live(path: str, mount: Mount, root: Root) -> Live | None:
    """A mount as it is read without a snapshot; None where it cannot be told which directory of it that is."""
    at, point = root.path().rstrip(b"/") + b"/", mount.point.rstrip(b"/") + b"/"
    if not at.startswith(point):
        return None
    return Live(path, mount, root, (mount.root.rstrip(b"/") + b"/" + at.removeprefix(point)).strip(b"/"))


def see_that_it_can_be_taken(asked: str, root: Root, shown: str) -> None:
    """Nothing is done yet. Raises SourceError where a kind is asked for that the source cannot have."""
    if asked in (AUTO, NONE):
        return
    mount = own_mount(root)
    if mount is None or live("", mount, root) is None:
        against = "it cannot be told what it lies on"
    else:
        fits = lvm_snapshot.fits(mount) if asked == "lvm" else mount.kind == asked
        against = "" if fits else f"it lies on {printable(description(mount))}"
    if not against and os.geteuid() != 0:
        raise SourceError(f"a snapshot of {shown} takes root's rights", "run as root, or give --snapshot=none")
    if against:
        raise SourceError(
            f"there is no {asked} snapshot of {shown}: {against}",
            "--snapshot=auto takes one where it can, and none reads the source as it is",
        )
    if asked == "lvm":
        lvm_snapshot.see_that_programs_are_there()
    elif asked == "zfs":
        zfs_snapshot.see_that_programs_are_there()


def taken(
    lives: Sequence[Live], asked: str, wanted: Wanted, opened: ExitStack
) -> tuple[Sequence[Still], Sequence[Part]]:
    """What is read from snapshots until `opened` is closed, and what could not be, with the reason.

    Raises SourceError where the kind that was asked for is not possible.
    """
    stills: list[Still] = []
    refused: list[Part] = []
    for each in lives:
        kind = _kind(each.mount, asked)
        if not kind:
            continue
        with ExitStack() as tried:
            try:
                stills += tried.enter_context(_TAKEN[kind](each, wanted))
            except (OSError, LtspError) as error:
                if asked == AUTO and isinstance(error, PermissionError):
                    continue  # root of a container
                reason = _reason(error)
                if asked != AUTO:
                    shown = f"/{printable(each.path)} of the source" if each.path else "the source"
                    raise SourceError(
                        f"no {kind} snapshot of {shown} could be taken: {reason}", "--snapshot=none reads it as it is"
                    ) from error
                refused.append(Part(each.path, f"no {kind} snapshot could be taken", reason))
            else:
                opened.push(tried.pop_all())
    refused += (Part(still.path, "no snapshot could be taken", still.live) for still in stills if still.live)
    return stills, refused


def _kind(mount: Mount, asked: str) -> str:
    """The kind of snapshot to take of a mount; empty for none. What is mounted read-only stands still by itself."""
    if asked == NONE or b"rw" not in mount.options or os.geteuid() != 0:
        return ""
    if asked in (AUTO, mount.kind) and mount.kind == "btrfs":
        return "btrfs"
    if asked in (AUTO, mount.kind) and mount.kind == "zfs":
        return "zfs" if asked == "zfs" or zfs_snapshot.is_there() else ""
    if asked == "lvm":
        return "lvm" if lvm_snapshot.fits(mount) else ""
    return "lvm" if asked == AUTO and lvm_snapshot.is_free(mount) else ""


def _reason(error: OSError | LtspError) -> str:
    if isinstance(error, LtspError):
        return error.message
    return (error.strerror or str(error)).lower()
