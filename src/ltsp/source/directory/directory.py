"""A directory of the host as a source: a chroot, or `/` itself, with the file systems mounted in it that belong to it.

With the privilege to do so, each file system is read through a private copy of its mount, in which nothing else is
mounted: the directories below mount points show themselves, and no server or daemon can be met. The copies are in no
mount namespace and go with their descriptors. Without the privilege the mounts are told by openat2(2) as they are met.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from ltsp.errors import SourceError
from ltsp.host import mount_table
from ltsp.host.block_device import medium_of
from ltsp.host.root import Root
from ltsp.host.system_call import clone_mount, mount_id
from ltsp.inspection.mount_plan import Decision, decide
from ltsp.source.directory import package_lock
from ltsp.source.directory.scan import Mounted, Scan
from ltsp.source.snapshot import snapshot
from ltsp.source.snapshot.btrfs import own_place
from ltsp.source.snapshot.frozen import Live, Still, Wanted
from ltsp.source.source import Part, Plan
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import Metadata
from ltsp.tree.selection import Selection, Take
from ltsp.tree.tree import Tree

_UNASKED = Metadata(mode=0o755)
"""For the mount point of a server's or daemon's file system that cannot be looked below: as mkdir makes it."""


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """A directory of the host."""

    name: str
    path: str
    """As the user gave it."""
    description: str
    leave_out: tuple[str, ...] = ()
    """Directories of the host that are never part of the tree: where the images go."""
    at: str = ""
    """Where it lies in the system that it is a part of; empty for a whole system."""
    warnings: tuple[str, ...] = ()
    snapshots: str = snapshot.NONE
    """Which kind of them to read it from: one of `snapshot.KINDS`."""
    record: snapshot.Record = field(default_factory=snapshot.Record, compare=False, repr=False)

    @property
    def kind(self) -> str:
        return "directory"

    def plan(self) -> Plan:
        with self._root() as root:
            decisions = _decisions(root, self.at)
            outputs = _inside(root, self.leave_out)
            taken = (Part("", f"directory {decode(root.path())}"),)
        lacking = tuple(
            f"/{printable(decision.path)} is left out: {decision.reason}"
            for decision in decisions
            if decision.is_vital and not decision.taken
        )
        return Plan(
            taken=taken + tuple(_part(decision) for decision in decisions if decision.taken),
            left_out=tuple(_part(decision) for decision in decisions if not decision.taken)
            + tuple(Part(path, "output directory", "the image does not pack itself") for path in outputs),
            warnings=self.warnings + lacking,
            snapshots=self.record.snapshots,
            live=self.record.refused,
            still=self.record.whole,
            lost=self.record.lost(),
        )

    @contextmanager
    def outline(self, selection: Selection) -> Iterator[Tree]:
        with ExitStack() as opened:
            root = opened.enter_context(self._root())
            decisions = _decisions(root, self.at)
            roots = {"": root, **_mounted(root, decisions, opened)}
            yield self._scan(selection, Faults(skip_unreadable=True), decisions, roots, (), opened)

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        with ExitStack() as opened:
            root = opened.enter_context(self._root())
            decisions = _decisions(root, self.at)
            roots = {"": root, **_mounted(root, decisions, opened)}
            lives = _lives(roots, decisions)
            selection = _without(selection, {path for live in lives if (path := own_place(live))})
            stills, refused = snapshot.taken(lives, self.snapshots, _wanted(selection, decisions), opened)
            whole = not refused and {each.path for each in stills} >= roots.keys()
            opened.enter_context(self.record.of(stills, refused, whole=whole))
            yield self._scan(selection, faults, decisions, roots, stills, opened)

    def _scan(
        self,
        selection: Selection,
        faults: Faults,
        decisions: Sequence[Decision],
        roots: Mapping[str, Root],
        stills: Sequence[Still],
        opened: ExitStack,
    ) -> Tree:
        """The tree of these roots, by what stands still of them, which can be read until `opened` closes."""
        still = {each.path: each.root for each in stills}
        others = {path: live for path, live in roots.items() if path not in still}
        copies = _copies(others, opened)
        bare = len(copies) == len(others)
        read = {**others, **copies, **still}
        mounts = {path: Mounted(root, itself=True) for path, root in still.items()} | {
            decision.path: Mounted(
                root=read.get(decision.path),
                metadata=_UNASKED if decision.may_hang and not bare else None,
            )
            for decision in decisions
        }
        outputs = _identities(self.leave_out, roots[""], stills)
        return Scan(selection, faults, mounts=mounts, bare=bare, outputs=outputs).run(read[""])

    def see_that_snapshots_can_be_taken(self) -> None:
        """Raises LtspError where a kind is asked for that this directory cannot have. Nothing is done yet."""
        with self._root() as root:
            snapshot.see_that_it_can_be_taken(self.snapshots, root, printable(self.path))

    @contextmanager
    def hold_packages(self, timeout: float, waiting: Callable[[str], None]) -> Iterator[list[str]]:
        with self._root() as root, package_lock.hold(root, timeout, waiting) as notes:
            yield notes

    def _root(self) -> Root:
        try:
            return Root.open(encode(self.path))
        except OSError as error:
            raise SourceError(f"cannot open {printable(self.path)}: {error.strerror}") from error


def _decisions(root: Root, at: str) -> list[Decision]:
    met = mount_table.below(mount_table.read(), root.path(), mount_id(root.descriptor))
    return decide(met, medium_of, at)


def _part(decision: Decision) -> Part:
    return Part(decision.path, decision.description, decision.reason)


def _mounted(root: Root, decisions: Sequence[Decision], opened: ExitStack) -> dict[str, Root]:
    """The roots of the mounts that are taken in, by path.

    One that may not be reached is none of them: the scan meets the directory that forbids it, and says so.

    Raises SourceError where a mount is not what the table said: it was replaced a moment ago.
    """
    roots = {}
    for decision in decisions:
        if not decision.taken:
            continue
        try:
            descriptor = root.mount_point(encode(decision.path))
        except PermissionError:
            continue
        except OSError as error:
            raise _replaced(decision) from error
        roots[decision.path] = opened.enter_context(Root(descriptor))
        if mount_id(descriptor) not in (decision.mount.id, None):
            raise _replaced(decision)
    return roots


def _replaced(decision: Decision) -> SourceError:
    return SourceError(f"/{printable(decision.path)} was mounted or unmounted a moment ago", "try again")


def _copies(roots: Mapping[str, Root], opened: ExitStack) -> dict[str, Root]:
    """A private copy of each mount; none where that is not allowed (no root, a user namespace, Linux before 5.2)."""
    copies = {}
    for path, root in roots.items():
        try:
            copies[path] = opened.enter_context(Root(clone_mount(root.descriptor)))
        except OSError:
            return {}
    return copies


def _lives(roots: Mapping[str, Root], decisions: Sequence[Decision]) -> list[Live]:
    """The mounts that are read, the source's own one first."""
    mounts = {decision.path: decision.mount for decision in decisions}
    own = snapshot.own_mount(roots[""])
    if own is not None:
        mounts[""] = own
    lives = (snapshot.live(path, mounts[path], root) for path, root in roots.items() if path in mounts)
    return [live for live in lives if live is not None]


def _without(selection: Selection, left_out: Collection[str]) -> Selection:
    """The selection without these directories, which are ours."""
    if not left_out:
        return selection
    return lambda path, directory: Take.NOTHING if path in left_out else selection(path, directory)


def _wanted(selection: Selection, decisions: Sequence[Decision]) -> Wanted:
    """What the selection makes of a directory of a mount, unless another mount hides it."""
    mounted = {decision.path for decision in decisions}

    def wanted(path: str, mount: str) -> Take:
        names = path.split("/")
        above = ["/".join(names[:end]) for end in range(1, len(names))]
        nearest = next((way for way in (path, *reversed(above)) if way in mounted), "")
        if nearest != mount or any(selection(way, True) is not Take.ALL for way in above):
            return Take.NOTHING
        return selection(path, True)

    return wanted


def _inside(root: Root, directories: Sequence[str]) -> list[str]:
    """The paths below the root, relative to it, of those directories that lie there."""
    prefix = root.path().rstrip(b"/") + b"/"
    paths = (os.path.realpath(encode(directory)) for directory in directories)
    return sorted({decode(path.removeprefix(prefix)) for path in paths if path.startswith(prefix) and path != prefix})


def _identities(directories: Sequence[str], root: Root, stills: Sequence[Still]) -> frozenset[tuple[int, int]]:
    """Device and inode of the directories that are there: so they are known under any path, bound ones too.

    In a snapshot, the device is another one.
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
    devices = [(still.device, os.fstat(still.root.descriptor).st_dev) for still in stills]
    return frozenset(
        identities | {(new, inode) for old, new in devices for device, inode in identities if device == old}
    )
