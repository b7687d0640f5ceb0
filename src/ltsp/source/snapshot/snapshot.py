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
from ltsp.source.snapshot.frozen import FrozenMount, MountSelection, SnapshotBase
from ltsp.source.source import Snapshot, SourcePart
from ltsp.tree.name import printable

AUTO, NONE = "auto", "none"
KINDS = (AUTO, "btrfs", "lvm", "zfs", NONE)

_EXPERIMENTAL = {"lvm": "LVM", "zfs": "ZFS"}
"""Kinds whose code follows the manual pages and has not run against a real volume group or pool."""

_TAKE_SNAPSHOT: Mapping[
    str, Callable[[SnapshotBase, MountSelection], AbstractContextManager[Sequence[FrozenMount]]]
] = {
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
    is_complete: bool = False
    """Everything that is included is read from snapshots."""
    _frozen_mounts: list[FrozenMount] = field(default_factory=list)

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
    def hold(
        self, frozen_mounts: Sequence[FrozenMount], refused: Sequence[SourcePart], *, is_complete: bool
    ) -> Iterator[None]:
        self.snapshots = tuple(
            Snapshot(frozen.path, frozen.kind, frozen.origin) for frozen in frozen_mounts if frozen.kind
        )
        self.refused = tuple(refused)
        self.is_complete = is_complete
        self._frozen_mounts = list(frozen_mounts)
        try:
            yield
        finally:
            self._frozen_mounts = []


def find_mount(root: RootDirectory) -> Mount | None:
    """The mount that contains a directory; None if the table does not show it, as for a process in a chroot."""
    return mounts.find_mount(mounts.read_mounts(), root.path(), mount_id(root.descriptor))


def find_snapshot_base(path: str, mount: Mount, root: RootDirectory) -> SnapshotBase | None:
    """A mount as it is read without a snapshot; None if its directory in the file system is unknown."""
    at, mount_point = root.path().rstrip(b"/") + b"/", mount.mount_point.rstrip(b"/") + b"/"
    if not at.startswith(mount_point):
        return None
    return SnapshotBase(path, mount, root, (mount.root.rstrip(b"/") + b"/" + at.removeprefix(mount_point)).strip(b"/"))


def check_can_snapshot(requested_kind: str, root: RootDirectory, display_name: str) -> None:
    """Changes nothing. Raises SourceError if the requested kind is not possible for the source."""
    if requested_kind in (AUTO, NONE):
        return
    mount = find_mount(root)
    if mount is None or find_snapshot_base("", mount, root) is None:
        objection = "cannot determine its file system"
    else:
        fits = lvm_snapshot.can_snapshot(mount) if requested_kind == "lvm" else mount.kind == requested_kind
        objection = "" if fits else f"its file system is {printable(describe_mount(mount))}"
    if not objection and os.geteuid() != 0:
        raise SourceError(f"a snapshot of {display_name} requires root", "run as root, or give --snapshot=none")
    if objection:
        raise SourceError(
            f"cannot snapshot {display_name} with {requested_kind}: {objection}",
            "--snapshot=auto takes one if possible; --snapshot=none reads the source as it is",
        )
    if requested_kind == "lvm":
        lvm_snapshot.check_programs()
    elif requested_kind == "zfs":
        zfs_snapshot.check_programs()


def take_snapshots(
    bases: Sequence[SnapshotBase], requested_kind: str, wanted: MountSelection, stack: ExitStack
) -> tuple[Sequence[FrozenMount], Sequence[SourcePart]]:
    """Snapshots that can be read until `stack` is closed, and parts without one, with the reason.

    Raises SourceError if the requested kind is not possible.
    """
    frozen_mounts: list[FrozenMount] = []
    refused: list[SourcePart] = []
    for each in bases:
        kind = _choose_kind(each.mount, requested_kind)
        if not kind:
            continue
        with ExitStack() as attempt:
            try:
                frozen_mounts += attempt.enter_context(_TAKE_SNAPSHOT[kind](each, wanted))
            except (OSError, LtspError) as error:
                if requested_kind == AUTO and isinstance(error, PermissionError):
                    continue  # root of a container
                reason = _describe_error(error)
                if requested_kind != AUTO:
                    display_name = f"/{printable(each.path)} of the source" if each.path else "the source"
                    raise SourceError(
                        f"cannot snapshot {display_name} with {kind}: {reason}", "--snapshot=none reads it as it is"
                    ) from error
                refused.append(SourcePart(each.path, f"no {kind} snapshot could be taken", reason))
            else:
                stack.push(attempt.pop_all())
    refused += (
        SourcePart(frozen.path, "no snapshot could be taken", frozen.no_snapshot_reason)
        for frozen in frozen_mounts
        if frozen.no_snapshot_reason
    )
    return frozen_mounts, refused


def _choose_kind(mount: Mount, requested_kind: str) -> str:
    """The kind of snapshot to take of a mount; empty for none. A read-only mount does not need one."""
    if requested_kind == NONE or b"rw" not in mount.options or os.geteuid() != 0:
        return ""
    if requested_kind in (AUTO, mount.kind) and mount.kind == "btrfs":
        return "btrfs"
    if requested_kind in (AUTO, mount.kind) and mount.kind == "zfs":
        return "zfs" if requested_kind == "zfs" or zfs_snapshot.is_installed() else ""
    if requested_kind == "lvm":
        return "lvm" if lvm_snapshot.can_snapshot(mount) else ""
    return "lvm" if requested_kind == AUTO and lvm_snapshot.has_thin_volume(mount) else ""


def _describe_error(error: OSError | LtspError) -> str:
    if isinstance(error, LtspError):
        return error.message
    return (error.strerror or str(error)).lower()
