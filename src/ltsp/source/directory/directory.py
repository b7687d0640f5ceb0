"""A directory of the host as a source: a chroot, or `/` itself, with the file systems mounted in it that belong to it.

With the privilege to do so, each file system is read through a private copy of its mount, in which nothing else is
mounted: the directories under mount points are visible, and no server or daemon is contacted. The copies are in no
mount namespace and vanish with their descriptors. Without the privilege, openat2(2) detects mounts as they are met.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from ltsp.errors import SourceError
from ltsp.host import mounts
from ltsp.host.block_device import find_block_device
from ltsp.host.root import RootDirectory
from ltsp.host.system_call import clone_mount, mount_id
from ltsp.inspection.mount_plan import MountDecision, decide_mounts
from ltsp.source.directory import package_lock
from ltsp.source.directory.scan import MountPoint, Scan
from ltsp.source.snapshot import snapshot
from ltsp.source.snapshot.btrfs import find_snapshot_dir_in_source
from ltsp.source.snapshot.frozen import FrozenMount, MountSelection, SnapshotBase
from ltsp.source.source import Plan, SourcePart
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import Metadata
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_DEFAULT_METADATA = Metadata(mode=0o755)
"""For the mount point of a network or FUSE file system that hides the directory below it: as mkdir creates it."""


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory of the host."""

    name: str
    path: str
    """As the user gave it."""
    description: str
    excluded_directories: tuple[str, ...] = ()
    """Directories of the host that are never part of the tree: the output directories."""
    subdir: str = ""
    """Its path in the system that it is a part of; empty for a whole system."""
    warnings: tuple[str, ...] = ()
    snapshots: str = snapshot.NONE
    """The kind of snapshot to read it from: one of `snapshot.KINDS`."""
    outcome: snapshot.SnapshotOutcome = field(default_factory=snapshot.SnapshotOutcome, compare=False, repr=False)

    @property
    def kind(self) -> str:
        return "directory"

    def plan(self) -> Plan:
        with self._open_root() as root:
            decisions = _decide_mounts(root, self.subdir)
            excluded = _find_directories_below(root, self.excluded_directories)
            root_part = (SourcePart("", f"directory {decode(root.path())}"),)
        missing = tuple(
            f"/{printable(decision.path)} is left out: {decision.reason}"
            for decision in decisions
            if decision.is_vital and not decision.included
        )
        return Plan(
            included=root_part + tuple(_make_part(decision) for decision in decisions if decision.included),
            left_out=tuple(_make_part(decision) for decision in decisions if not decision.included)
            + tuple(SourcePart(path, "output directory", "an image does not include itself") for path in excluded),
            warnings=self.warnings + missing + self.outcome.warnings,
            snapshots=self.outcome.snapshots,
            live_parts=self.outcome.refused,
            is_frozen=self.outcome.is_complete,
            invalid_reason=self.outcome.invalid_reason(),
        )

    @contextmanager
    def peek_tree(self, selection: Selection) -> Iterator[Tree]:
        with ExitStack() as stack:
            root = stack.enter_context(self._open_root())
            decisions = _decide_mounts(root, self.subdir)
            roots = {"": root, **_open_mounts(root, decisions, stack)}
            yield self._scan(selection, Faults(skip_unreadable=True), decisions, roots, (), stack)

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        with ExitStack() as stack:
            root = stack.enter_context(self._open_root())
            decisions = _decide_mounts(root, self.subdir)
            roots = {"": root, **_open_mounts(root, decisions, stack)}
            bases = _find_bases(roots, decisions)
            selection = _exclude_directories(
                selection, {path for base in bases if (path := find_snapshot_dir_in_source(base))}
            )
            frozen_mounts, refused = snapshot.take_snapshots(
                bases, self.snapshots, _select_in_mounts(selection, decisions), stack
            )
            is_complete = not refused and {each.path for each in frozen_mounts} >= roots.keys()
            stack.enter_context(self.outcome.hold(frozen_mounts, refused, is_complete=is_complete))
            yield self._scan(selection, faults, decisions, roots, frozen_mounts, stack)

    def _scan(
        self,
        selection: Selection,
        faults: Faults,
        decisions: Sequence[MountDecision],
        roots: Mapping[str, RootDirectory],
        frozen_mounts: Sequence[FrozenMount],
        stack: ExitStack,
    ) -> Tree:
        """The tree of these roots, from snapshots as far as there are some, readable until `stack` closes."""
        frozen = {each.path: each.root for each in frozen_mounts}
        others = {path: base for path, base in roots.items() if path not in frozen}
        copies = _clone_mounts(others, stack)
        mounts_cloned = len(copies) == len(others)
        readable_roots = {**others, **copies, **frozen}
        points = {path: MountPoint(root, use_root_metadata=True) for path, root in frozen.items()} | {
            decision.path: MountPoint(
                root=readable_roots.get(decision.path),
                metadata=_DEFAULT_METADATA if decision.may_hang and not mounts_cloned else None,
            )
            for decision in decisions
        }
        excluded = _identify_directories(self.excluded_directories, roots[""], frozen_mounts)
        return Scan(selection, faults, mounts=points, mounts_cloned=mounts_cloned, excluded_inodes=excluded).run(
            readable_roots[""]
        )

    def check_snapshots(self) -> None:
        """Raises LtspError if the requested kind is not possible for this directory. Changes nothing."""
        with self._open_root() as root:
            snapshot.check_can_snapshot(self.snapshots, root, printable(self.path))

    @contextmanager
    def lock_package_manager(self, timeout: float, on_wait: Callable[[str], None]) -> Iterator[list[str]]:
        with self._open_root() as root, package_lock.hold_package_locks(root, timeout, on_wait) as notes:
            yield notes

    def _open_root(self) -> RootDirectory:
        try:
            return RootDirectory.open(encode(self.path))
        except OSError as error:
            raise SourceError(f"cannot open {printable(self.path)}: {error.strerror}") from error


def _decide_mounts(root: RootDirectory, subdir: str) -> list[MountDecision]:
    mounts_inside = mounts.find_mounts_below(mounts.read_mounts(), root.path(), mount_id(root.descriptor))
    return decide_mounts(mounts_inside, find_block_device, subdir)


def _make_part(decision: MountDecision) -> SourcePart:
    return SourcePart(decision.path, decision.description, decision.reason)


def _open_mounts(root: RootDirectory, decisions: Sequence[MountDecision], stack: ExitStack) -> dict[str, RootDirectory]:
    """The roots of the included mounts, by path.

    Those that cannot be reached are missing: the scan reports the directory that denies access.

    Raises SourceError if a mount differs from the mount table: it was just replaced.
    """
    roots = {}
    for decision in decisions:
        if not decision.included:
            continue
        try:
            descriptor = root.open_mount_point(encode(decision.path))
        except PermissionError:
            continue
        except OSError as error:
            raise _mount_changed_error(decision) from error
        roots[decision.path] = stack.enter_context(RootDirectory(descriptor))
        if mount_id(descriptor) not in (decision.mount.id, None):
            raise _mount_changed_error(decision)
    return roots


def _mount_changed_error(decision: MountDecision) -> SourceError:
    return SourceError(f"/{printable(decision.path)} was just mounted or unmounted", "try again")


def _clone_mounts(roots: Mapping[str, RootDirectory], stack: ExitStack) -> dict[str, RootDirectory]:
    """A private copy of each mount; none if that is not permitted (not root, a user namespace, Linux before 5.2)."""
    copies = {}
    for path, root in roots.items():
        try:
            copies[path] = stack.enter_context(RootDirectory(clone_mount(root.descriptor)))
        except OSError:
            return {}
    return copies


def _find_bases(roots: Mapping[str, RootDirectory], decisions: Sequence[MountDecision]) -> list[SnapshotBase]:
    """The mounts that are read, the one of the source itself first."""
    included = {decision.path: decision.mount for decision in decisions}
    own = snapshot.find_mount(roots[""])
    if own is not None:
        included[""] = own
    bases = (
        snapshot.find_snapshot_base(path, included[path], root) for path, root in roots.items() if path in included
    )
    return [base for base in bases if base is not None]


def _exclude_directories(selection: Selection, excluded: Collection[str]) -> Selection:
    """The selection without these directories, which belong to LTSP."""
    if not excluded:
        return selection
    return lambda path, directory: Inclusion.NOTHING if path in excluded else selection(path, directory)


def _select_in_mounts(selection: Selection, decisions: Sequence[MountDecision]) -> MountSelection:
    """The selection by path and mount: a directory hidden by another mount is not included."""
    mounted = {decision.path for decision in decisions}

    def wanted(path: str, mount: str) -> Inclusion:
        names = path.split("/")
        ancestors = ["/".join(names[:end]) for end in range(1, len(names))]
        nearest = next((ancestor for ancestor in (path, *reversed(ancestors)) if ancestor in mounted), "")
        if nearest != mount or any(selection(ancestor, True) is not Inclusion.ALL for ancestor in ancestors):
            return Inclusion.NOTHING
        return selection(path, True)

    return wanted


def _find_directories_below(root: RootDirectory, directories: Sequence[str]) -> list[str]:
    """The paths, relative to the root, of the directories that are below it."""
    prefix = root.path().rstrip(b"/") + b"/"
    paths = (os.path.realpath(encode(directory)) for directory in directories)
    return sorted({decode(path.removeprefix(prefix)) for path in paths if path.startswith(prefix) and path != prefix})


def _identify_directories(
    directories: Sequence[str], root: RootDirectory, frozen_mounts: Sequence[FrozenMount]
) -> frozenset[tuple[int, int]]:
    """Device and inode of the existing directories, which identify them under any path, including bind mounts.

    In a snapshot, the device differs.
    """
    identities = set()
    for directory in directories:
        try:
            status = os.stat(encode(directory))
        except OSError:
            continue
        identities.add((status.st_dev, status.st_ino))
    top = os.fstat(root.descriptor)
    identities -= {(top.st_dev, top.st_ino)}
    devices = [(frozen.device, os.fstat(frozen.root.descriptor).st_dev) for frozen in frozen_mounts]
    return frozenset(
        identities | {(new, inode) for old, new in devices for device, inode in identities if device == old}
    )
