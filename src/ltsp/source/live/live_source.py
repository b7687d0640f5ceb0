"""The system in what carries it as a source: on a live medium a file, or layers over each other, with the medium's
kernel; in an archive the disk of a virtual machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ltsp.boot.kernel_rules import Rule
from ltsp.errors import LtspError, SourceError
from ltsp.inspection import carried_disk, live_medium
from ltsp.inspection.live_medium import Carried
from ltsp.inspection.rootfs_check import is_system
from ltsp.source.live import live_kernel
from ltsp.source.live.live_kernel import with_kernel
from ltsp.source.source import Part, Plan, Source
from ltsp.source.spill import on_host
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.overlay import overlaid
from ltsp.tree.selection import Selection, Take, everything
from ltsp.tree.tree import Tree

_DEEPEST = 3
"""Files in each other: a file system in a squashfs in a disc."""
_LOOKED_INTO = live_medium.TOPS | live_kernel.TOPS


@dataclass(frozen=True, slots=True)
class LiveSource:
    medium: Source
    open_image: Callable[[str], Source]
    """The source of an image file of the host, by path."""
    written: str
    """How the user names the medium."""
    carried: Carried | None
    """None where that is not known before the work: then it may be no live medium, but a system."""
    named: str = ""
    """The path of the system's file, or of its uppermost layer, where the user says it; or of a directory."""
    archive: bool = False
    """Whether what carries it is one, in which a disk may lie anywhere."""
    warnings: tuple[str, ...] = ()
    own_rule: str = ""
    """Of the user, which may lead to the medium's kernel."""

    @property
    def name(self) -> str:
        return self.medium.name

    @property
    def kind(self) -> str:
        return self.medium.kind

    @property
    def description(self) -> str:
        return f"{self._chosen} in {self.medium.description}" if self._chosen else self.medium.description

    def plan(self) -> Plan:
        plan = self.medium.plan()
        warnings = [*self.warnings, *plan.warnings]
        if self.carried and len(self.carried.systems) > 1 and not self.named:
            every = [each for each in self.carried.systems if each != self._chosen]
            other = f"{printable(self.written)},,{printable(every[0])}"
            chosen = f"took {printable(self._chosen)}, the default of the live medium"
            warnings.append(f"{chosen}; of {live_medium.shown(every)}, name the one that you want: {other}")
        taken = (*plan.taken, Part("", self._chosen, "a part of the source itself")) if self._chosen else plan.taken
        return replace(plan, taken=taken, warnings=tuple(warnings))

    def hold_packages(self, timeout: float, waiting: Callable[[str], None]) -> AbstractContextManager[list[str]]:
        return self.medium.hold_packages(timeout, waiting)

    def see_that_one_is_meant(self) -> None:
        """Raises SourceError."""
        if self.carried and not self._chosen:
            raise self.carried.none_is_named(printable(self.written))

    def see_that_clients_find_it(self) -> None:
        """Raises SourceError where a client that gets the medium as it is does not find the system in it."""
        if self.carried and self.carried.chosen not in live_medium.SINGLE:
            raise SourceError(
                f"{printable(self._chosen)} of {printable(self.written)} is a layer, which clients do not find",
                f"make an image of it: ltsp image {printable(self.written)} --name NAME",
            )

    @property
    def _chosen(self) -> str:
        return self.named or (self.carried.chosen if self.carried else "")

    def outline(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - the system lies in a file
        return nullcontext()

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        """Raises SourceError and FormatError."""
        with ExitStack() as opened:
            tops = _LOOKED_INTO | (Rule.parse(self.own_rule).tops if self.own_rule else set())
            # Who selects means what is in it.
            wanted = everything if self.named or self.archive else _with_medium(selection, tops)
            medium = opened.enter_context(self.medium.open(wanted, faults))
            yield self._system(medium, faults, opened).select(selection)

    def _system(self, medium: Tree, faults: Faults, opened: ExitStack) -> Tree:
        if self.named:
            return self._of_file(medium, self.named, faults, opened)
        if self.carried is None and is_system(medium):
            return medium
        carried = Carried.of(medium)
        if carried is None:
            return self._of_disk(medium, faults, opened) if self.archive else medium
        if not carried.chosen:
            raise carried.none_is_named(printable(self.written))
        return self._of_file(medium, carried.chosen, faults, opened)

    def _of_disk(self, medium: Tree, faults: Faults, opened: ExitStack) -> Tree:
        every = carried_disk.disks(medium)
        if not every:
            carried_disk.see_that_it_holds_one(medium, self.written)
            return medium
        disk = carried_disk.only(every, self.written)
        try:
            return self._opened(medium, disk, faults, opened)
        except LtspError as error:
            raise carried_disk.unread(error, self.written, disk) from error

    def _of_file(self, medium: Tree, path: str, faults: Faults, opened: ExitStack) -> Tree:
        layers = live_medium.chain(medium, path)
        trees = [self._opened(medium, each, faults, opened) for each in layers]
        tree = overlaid(trees) if len(trees) > 1 else trees[0]
        for _ in range(_DEEPEST):
            inner = None if is_system(tree) else Carried.of(tree)
            if inner is None or not inner.chosen:
                break
            tree = self._opened(tree, inner.chosen, faults, opened)
        others = live_medium.others(medium, layers)
        trees_beside = (self._opened(medium, each, faults, opened) for each in others)
        return with_kernel(tree, medium, trees_beside, self.own_rule)

    def _opened(self, medium: Tree, path: str, faults: Faults, opened: ExitStack) -> Tree:
        match medium.follow(path):
            case Directory() as directory:
                return Tree(directory)
            case File(content=content):
                source = self.open_image(opened.enter_context(on_host(content)))
                return opened.enter_context(source.open(everything, faults))
            case _:
                there = Carried.of(medium)
                systems = f"; it has {live_medium.shown(there.systems)}" if there else ""
                raise SourceError(
                    f"there is no {printable(path)} in {printable(self.medium.description)}{systems}",
                    "parts after the first are absolute paths, or paths in the tree so far",
                )


def _with_medium(selection: Selection, tops: Collection[str]) -> Selection:
    """The selection, and what tells a live medium and is needed of it. `tops` are globs."""

    def select(path: str, directory: bool) -> Take:
        first = path.partition("/")[0]
        return Take.ALL if any(fnmatchcase(first, top) for top in tops) else selection(path, directory)

    return select
