"""A source of several parts: trees laid over directories of the first, as mounts would be, without any mount."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from ltsp.errors import SourceError
from ltsp.source.source import Part, Plan, Source
from ltsp.source.spec import Layer
from ltsp.source.spill import on_host
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.selection import Selection, Take
from ltsp.tree.tree import Tree

OpenImage = Callable[[str], Source]
"""The source of an image file of the host, by path."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A part and where it comes from."""

    layer: Layer
    source: Source | None
    """None where the part lies in the tree so far and cannot be found before the work."""

    @property
    def description(self) -> str:
        return self.layer.image if self.source is None else self.source.description


@dataclass(frozen=True, slots=True)
class CombinedSource:
    base: Source
    laid: tuple[Laid, ...]
    open_image: OpenImage
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def kind(self) -> str:
        return self.base.kind

    @property
    def description(self) -> str:
        return ", ".join(
            [self.base.description, *(f"{laid.description} at /{laid.layer.subdir}" for laid in self.laid)]
        )

    def plan(self) -> Plan:
        plan = self.base.plan()
        covered = {laid.layer.subdir for laid in self.laid}
        taken = [part for part in plan.taken if not part.path or part.path not in covered]
        left_out = [part for part in plan.left_out if part.path not in covered]
        warnings = [*self.warnings, *plan.warnings]
        snapshots, live = [*plan.snapshots], [*plan.live]
        others = []
        for laid in self.laid:
            at = laid.layer.subdir
            if laid.source is None:
                taken.append(Part(at, laid.description, "a part of the source itself"))
                continue
            below = laid.source.plan()
            taken += (_moved(at, part) for part in below.taken)
            left_out += (_moved(at, part) for part in below.left_out)
            warnings += below.warnings
            snapshots += (replace(each, path=_joined(at, each.path)) for each in below.snapshots)
            live += (_moved(at, part) for part in below.live)
            others.append(below)
        return Plan(
            tuple(taken),
            tuple(left_out),
            tuple(warnings),
            plan.reader,
            tuple(snapshots),
            tuple(live),
            still=plan.still,  # the locks of packages are those of the first part
            lost=next(filter(None, (each.lost for each in (plan, *others))), ""),
        )

    @contextmanager
    def outline(self, selection: Selection) -> Iterator[Tree | None]:
        """Of all parts, or none."""
        with ExitStack() as opened:
            tree = opened.enter_context(self.base.outline(_bare(selection, self._covered)))
            for laid in self.laid:
                at = None if tree is None else tree.resolve(laid.layer.subdir)
                if tree is None or laid.source is None or at is None or not isinstance(tree.get(at), Directory):
                    tree = None
                    break
                part = opened.enter_context(laid.source.outline(_below(selection, at)))
                tree = tree.edit({at: part.root}) if at and part else part
            yield tree

    @property
    def _covered(self) -> frozenset[str]:
        return frozenset(laid.layer.subdir for laid in self.laid if laid.layer.subdir)

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        with ExitStack() as opened:
            tree = opened.enter_context(self.base.open(_bare(selection, self._covered), faults))
            for laid in self.laid:
                at = _place(tree, laid.layer.subdir, selection)
                if at is None:
                    continue
                below = _FaultsBelow(outer=faults, at=at)
                part = opened.enter_context(self._part(laid, tree, _below(selection, at), below))
                tree = tree.edit({at: part.root}) if at else part
            yield tree

    def hold_packages(self, timeout: float, waiting: Callable[[str], None]) -> AbstractContextManager[list[str]]:
        return self.base.hold_packages(timeout, waiting)

    @contextmanager
    def _part(self, laid: Laid, tree: Tree, selection: Selection, faults: Faults) -> Iterator[Tree]:
        if laid.source is not None:
            with laid.source.open(selection, faults) as part:
                yield part
            return
        match tree.follow(laid.layer.image):
            case Directory() as directory:
                yield Tree(directory).select(selection)
            case File(content=content):
                with on_host(content) as path, self.open_image(path).open(selection, faults) as part:
                    yield part
            case _:
                raise SourceError(
                    f"there is no {printable(laid.layer.image)} in {printable(self.base.description)}",
                    "parts after the first are absolute paths, or paths in the tree so far",
                )


@dataclass(slots=True)
class _FaultsBelow(Faults):
    """Passes on what happens in a part, under the path that it has in the whole."""

    outer: Faults = field(default_factory=Faults)
    at: str = ""

    def note_changed(self, path: str) -> None:
        self.outer.note_changed(_joined(self.at, path))

    def note_vanished(self, path: str) -> None:
        self.outer.note_vanished(_joined(self.at, path))

    def note_unreadable(self, path: str, error: OSError) -> None:
        self.outer.note_unreadable(_joined(self.at, path), error)


def _moved(at: str, part: Part) -> Part:
    return replace(part, path=_joined(at, part.path), reason=part.reason or "asked for")


def _joined(above: str, path: str) -> str:
    return f"{above}/{path}" if above and path else above or path


def _bare(selection: Selection, covered: frozenset[str]) -> Selection:
    """The selection for the first part: what another one covers is not read."""

    def select(path: str, directory: bool) -> Take:
        take = selection(path, directory)
        return Take.EMPTIED if directory and take is Take.ALL and path in covered else take

    return select


def _below(selection: Selection, at: str) -> Selection:
    """The selection for a part, in its own paths."""
    if not at:
        return selection
    if selection(at, True) is not Take.ALL:
        return lambda _path, _directory: Take.NOTHING
    return lambda path, directory: selection(f"{at}/{path}", directory)


def _place(tree: Tree, subdir: str, selection: Selection) -> str | None:
    """Where a part is laid, links followed inside the tree; None where the selection leaves that place out.

    Raises SourceError where there is no such directory.
    """
    at = tree.resolve(subdir)
    if at is not None and isinstance(tree.get(at), Directory):
        return at
    names = subdir.split("/")
    if any(selection("/".join(names[:end]), True) is not Take.ALL for end in range(1, len(names) + 1)):
        return None
    raise SourceError(f"there is no directory /{printable(subdir)} to lay a part over", "make it, or correct subdir=")
