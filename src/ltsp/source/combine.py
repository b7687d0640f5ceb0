"""A source of several parts: trees placed over directories of the first, like mounts but without mounting anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from ltsp.errors import SourceError
from ltsp.source.directory.host_file import spill_to_host
from ltsp.source.source import OpenImage, Plan, Source, SourcePart, SourceWrapper
from ltsp.source.spec import ImageSpec
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class OverlayEntry:
    """A part and its source."""

    image_spec: ImageSpec
    source: Source | None
    """None if the part is inside the parts before it, and so is found only when those are open."""

    @property
    def description(self) -> str:
        return self.image_spec.image if self.source is None else self.source.description


@dataclass(frozen=True, slots=True)
class CombinedSource(SourceWrapper):
    overlays: tuple[OverlayEntry, ...]
    open_image: OpenImage
    warnings: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return ", ".join(
            [self.base.description, *(f"{entry.description} at /{entry.image_spec.subdir}" for entry in self.overlays)]
        )

    def plan(self) -> Plan:
        plan = self.base.plan()
        covered = {entry.image_spec.subdir for entry in self.overlays}
        included = [part for part in plan.included if not part.path or part.path not in covered]
        left_out = [part for part in plan.left_out if part.path not in covered]
        warnings = [*self.warnings, *plan.warnings]
        snapshots, live_parts = [*plan.snapshots], [*plan.live_parts]
        overlay_plans = []
        for entry in self.overlays:
            at = entry.image_spec.subdir
            if entry.source is None:
                included.append(SourcePart(at, entry.description, "part of the source itself"))
                continue
            below = entry.source.plan()
            included += (_move_part(at, part) for part in below.included)
            left_out += (_move_part(at, part) for part in below.left_out)
            warnings += below.warnings
            snapshots += (replace(each, path=_join_path(at, each.path)) for each in below.snapshots)
            live_parts += (_move_part(at, part) for part in below.live_parts)
            overlay_plans.append(below)
        return Plan(
            tuple(included),
            tuple(left_out),
            tuple(warnings),
            plan.reader,
            tuple(snapshots),
            tuple(live_parts),
            is_frozen=plan.is_frozen,  # package locks are those of the first part
            invalid_reason=next(filter(None, (each.invalid_reason for each in (plan, *overlay_plans))), ""),
        )

    @contextmanager
    def peek_tree(self, selection: Selection) -> Iterator[Tree | None]:
        """The outline of all parts, or None."""
        with ExitStack() as stack:
            tree = stack.enter_context(self.base.peek_tree(_exclude_covered(selection, self._covered_directories)))
            for entry in self.overlays:
                at = None if tree is None else tree.resolve(entry.image_spec.subdir)
                if tree is None or entry.source is None or at is None or not isinstance(tree.get(at), Directory):
                    tree = None
                    break
                part = stack.enter_context(entry.source.peek_tree(_select_in_part(selection, at)))
                tree = tree.edit({at: part.root}) if at and part else part
            yield tree

    @property
    def _covered_directories(self) -> frozenset[str]:
        return frozenset(entry.image_spec.subdir for entry in self.overlays if entry.image_spec.subdir)

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        with ExitStack() as stack:
            tree = stack.enter_context(self.base.open(_exclude_covered(selection, self._covered_directories), faults))
            for entry in self.overlays:
                at = _resolve_subdir(tree, entry.image_spec.subdir, selection)
                if at is None:
                    continue
                below = _OverlayFaults(outer=faults, at=at)
                part = stack.enter_context(self._open_part(entry, tree, _select_in_part(selection, at), below))
                tree = tree.edit({at: part.root}) if at else part
            yield tree

    @contextmanager
    def _open_part(self, entry: OverlayEntry, tree: Tree, selection: Selection, faults: Faults) -> Iterator[Tree]:
        if entry.source is not None:
            with entry.source.open(selection, faults) as part:
                yield part
            return
        match tree.follow(entry.image_spec.image):
            case Directory() as directory:
                yield Tree(directory).select(selection)
            case File(content=content):
                with ExitStack() as stack:
                    image = self.open_image(stack.enter_context(spill_to_host(content)), stack)
                    yield stack.enter_context(image.open(selection, faults))
            case _:
                raise SourceError(
                    f"{printable(entry.image_spec.image)} not found in {printable(self.base.description)}",
                    "check the path: it is looked up in the parts before this one",
                )


@dataclass(slots=True)
class _OverlayFaults(Faults):
    """Passes faults of a part on, under their path in the whole tree."""

    outer: Faults = field(default_factory=Faults)
    at: str = ""

    def note_changed(self, path: str) -> None:
        self.outer.note_changed(_join_path(self.at, path))

    def note_vanished(self, path: str) -> None:
        self.outer.note_vanished(_join_path(self.at, path))

    def note_unreadable(self, path: str, error: OSError) -> None:
        self.outer.note_unreadable(_join_path(self.at, path), error)


def _move_part(at: str, part: SourcePart) -> SourcePart:
    return replace(part, path=_join_path(at, part.path), reason=part.reason or "asked for")


def _join_path(above: str, path: str) -> str:
    return f"{above}/{path}" if above and path else above or path


def _exclude_covered(selection: Selection, covered: frozenset[str]) -> Selection:
    """The selection for the first part: directories that another part covers are not read."""

    def select(path: str, directory: bool) -> Inclusion:
        inclusion = selection(path, directory)
        return Inclusion.EMPTIED if directory and inclusion is Inclusion.ALL and path in covered else inclusion

    return select


def _select_in_part(selection: Selection, at: str) -> Selection:
    """The selection for a part, with paths relative to that part."""
    if not at:
        return selection
    if selection(at, True) is not Inclusion.ALL:
        return lambda _path, _directory: Inclusion.NOTHING
    return lambda path, directory: selection(f"{at}/{path}", directory)


def _resolve_subdir(tree: Tree, subdir: str, selection: Selection) -> str | None:
    """The directory that a part covers, links followed inside the tree; None if the selection leaves it out.

    Raises SourceError if there is no such directory.
    """
    at = tree.resolve(subdir)
    if at is not None and isinstance(tree.get(at), Directory):
        return at
    names = subdir.split("/")
    if any(selection("/".join(names[:end]), True) is not Inclusion.ALL for end in range(1, len(names) + 1)):
        return None
    raise SourceError(f"cannot overlay /{printable(subdir)}: no such directory", "create it, or correct subdir=")
