"""Reads mounts from snapshots: chooses the kind for each mount, takes them, and reports the outcome.

Each kind of snapshot (btrfs_snapshot, lvm_snapshot, zfs_snapshot) takes one mount and gives roots to read in its
place. They are taken one after another, so each is consistent in itself, but not with the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from ltsp.errors import LtspError, SourceError
from ltsp.host import mounts
from ltsp.host.mounts import Mount
from ltsp.host.root import RootDirectory
from ltsp.host.system_call import mount_id
from ltsp.inspection.mount_plan import describe_mount
from ltsp.source.snapshot import btrfs as btrfs_snapshot
from ltsp.source.snapshot import lvm as lvm_snapshot
from ltsp.source.snapshot import zfs as zfs_snapshot
from ltsp.source.snapshot.frozen import Frozen, MountSelection, SnapshotBase
from ltsp.source.source import Snapshot, SourcePart
from ltsp.tree.name import printable

AUTO, NONE = "auto", "none"
KINDS = (AUTO, "btrfs", "lvm", "zfs", NONE)

_EXPERIMENTAL = {"lvm": "LVM", "zfs": "ZFS"}
"""Kinds whose code follows the manual pages and has not run against a real volume group or pool."""

_TAKE_SNAPSHOT: Mapping[str, Callable[[SnapshotBase, MountSelection], AbstractContextManager[Sequence[Frozen]]]] = {
    "btrfs": btrfs_snapshot.take_snapshot,
    "lvm": lvm_snapshot.take_snapshot,
    "zfs": zfs_snapshot.take_snapshot,
}


@dataclass(slots=True)
class SnapshotOutcome:
    """The result of the last time a source was opened, for the plan that is shown after it."""

    snapshots: tuple[Snapshot, ...] = ()
    refused: tuple[SourcePart, ...] = ()
    """Parts that should have been read from a snapshot but were not, with the reason."""
    whole: bool = False
    """Everything that is included is read from snapshots."""
    _frozen_mounts: list[Frozen] = field(default_factory=list)

    def invalid_reason(self) -> str:
        """Why data read from a snapshot cannot be trusted, as of now; empty if it can."""
        return next(filter(None, (frozen.invalid_reason() for frozen in self._frozen_mounts)), "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """That a kind of snapshot is experimental, if one was taken. Safe to print."""
        kinds = dict.fromkeys(_EXPERIMENTAL[each.kind] for each in self.snapshots if each.kind in _EXPERIMENTAL)
        return tuple(
            f"{kind} snapshots are experimental: they have not been tested on a real {kind} system yet; "
            "--snapshot=none reads the source as it is"
            for kind in kinds
        )

    @contextmanager
    def hold(self, frozen_mounts: Sequence[Frozen], refused: Sequence[SourcePart], *, whole: bool) -> Iterator[None]:
        self.snapshots = tuple(
            Snapshot(frozen.path, frozen.kind, frozen.origin) for frozen in frozen_mounts if frozen.kind
        )
        self.refused = tuple(refused)
        self.whole = whole
        self._frozen_mounts = list(frozen_mounts)
        try:
            yield
        finally:
            self._frozen_mounts = []


def find_mount(root: RootDirectory) -> Mount | None:
    """The mount that contains a directory; None if the table does not show it, as for a process in a chroot."""
    return mounts.find_mount(mounts.read_mounts(), root.path(), mount_id(root.descriptor))


def find_base(path: str, mount: Mount, root: RootDirectory) -> SnapshotBase | None:
    """A mount as it is read without a snapshot; None if its directory in the file system is unknown."""
    at, point = root.path().rstrip(b"/") + b"/", mount.point.rstrip(b"/") + b"/"
    if not at.startswith(point):
        return None
    return SnapshotBase(path, mount, root, (mount.root.rstrip(b"/") + b"/" + at.removeprefix(point)).strip(b"/"))


def check_can_snapshot(asked: str, root: RootDirectory, shown: str) -> None:
    """Changes nothing. Raises SourceError if the requested kind is not possible for the source."""
    if asked in (AUTO, NONE):
        return
    mount = find_mount(root)
    if mount is None or find_base("", mount, root) is None:
        against = "cannot determine its file system"
    else:
        fits = lvm_snapshot.can_snapshot(mount) if asked == "lvm" else mount.kind == asked
        against = "" if fits else f"its file system is {printable(describe_mount(mount))}"
    if not against and os.geteuid() != 0:
        raise SourceError(f"a snapshot of {shown} requires root", "run as root, or give --snapshot=none")
    if against:
        raise SourceError(
            f"cannot snapshot {shown} with {asked}: {against}",
            "--snapshot=auto takes one if possible; --snapshot=none reads the source as it is",
        )
    if asked == "lvm":
        lvm_snapshot.check_programs()
    elif asked == "zfs":
        zfs_snapshot.check_programs()


def take_snapshots(
    bases: Sequence[SnapshotBase], asked: str, wanted: MountSelection, opened: ExitStack
) -> tuple[Sequence[Frozen], Sequence[SourcePart]]:
    """Snapshots that can be read until `opened` is closed, and parts without one, with the reason.

    Raises SourceError if the requested kind is not possible.
    """
    frozen_mounts: list[Frozen] = []
    refused: list[SourcePart] = []
    for each in bases:
        kind = _choose_kind(each.mount, asked)
        if not kind:
            continue
        with ExitStack() as tried:
            try:
                frozen_mounts += tried.enter_context(_TAKE_SNAPSHOT[kind](each, wanted))
            except (OSError, LtspError) as error:
                if asked == AUTO and isinstance(error, PermissionError):
                    continue  # root of a container
                reason = _describe_error(error)
                if asked != AUTO:
                    shown = f"/{printable(each.path)} of the source" if each.path else "the source"
                    raise SourceError(
                        f"cannot snapshot {shown} with {kind}: {reason}", "--snapshot=none reads it as it is"
                    ) from error
                refused.append(SourcePart(each.path, f"no {kind} snapshot could be taken", reason))
            else:
                opened.push(tried.pop_all())
    refused += (
        SourcePart(frozen.path, "no snapshot could be taken", frozen.live_reason)
        for frozen in frozen_mounts
        if frozen.live_reason
    )
    return frozen_mounts, refused


def _choose_kind(mount: Mount, asked: str) -> str:
    """The kind of snapshot to take of a mount; empty for none. A read-only mount does not need one."""
    if asked == NONE or b"rw" not in mount.options or os.geteuid() != 0:
        return ""
    if asked in (AUTO, mount.kind) and mount.kind == "btrfs":
        return "btrfs"
    if asked in (AUTO, mount.kind) and mount.kind == "zfs":
        return "zfs" if asked == "zfs" or zfs_snapshot.is_installed() else ""
    if asked == "lvm":
        return "lvm" if lvm_snapshot.can_snapshot(mount) else ""
    return "lvm" if asked == AUTO and lvm_snapshot.has_thin_volume(mount) else ""


def _describe_error(error: OSError | LtspError) -> str:
    if isinstance(error, LtspError):
        return error.message
    return (error.strerror or str(error)).lower()
