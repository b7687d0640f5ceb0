"""A source read as rules say, wherever its own links lead them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.build.exclusions import ExclusionRules
from ltsp.build.omissions import OmissionSelection
from ltsp.report.report import Report
from ltsp.source.source import Source
from ltsp.transform.survey import Removal, RemovedPaths
from ltsp.tree.faults import Faults
from ltsp.tree.selection import ObservedSelection, Selection
from ltsp.tree.tree import Tree

_MOST_OUTLINES = 4
"""Looks at where links lead, each behind those of the one before; what is still behind others is read in vain."""


@dataclass(frozen=True, slots=True)
class SelectedTree:
    tree: Tree
    """What the rules leave."""
    rules: ExclusionRules
    """As they hold in this tree."""
    gone: tuple[Removal, ...]
    """What they leave out, as far as that was looked at."""
    full: frozenset[str]
    """Places of which more is left out than was looked at."""


@contextmanager
def open_selected_tree(
    source: Source, rules: ExclusionRules, lock_timeout: float, faults: Faults, report: Report
) -> Iterator[SelectedTree]:
    """What rules leave of a source."""
    outlined = False
    gone = RemovedPaths()

    def read_selection() -> Selection:
        nonlocal rules, outlined
        for _ in range(_MOST_OUTLINES):
            with source.outline(rules.outline_selection) as outline:
                if outline is None:
                    return ObservedSelection(rules.read_selection(outlined=False), gone.add)
                before, rules = rules, rules.follow_links(outline, beyond=True)
            if rules == before:
                break
        outlined = True
        return rules.read_selection(outlined=True)

    with open_tree(source, read_selection, lock_timeout, faults, report) as read:
        rules = rules.follow_links(read)
        tree = read.select(ObservedSelection(rules.selection, gone.add), rules.concern)
        full = _measure_omissions(source, rules, gone) if outlined else ()
        yield SelectedTree(tree, rules, tuple(gone.removals(rules.rule)), frozenset(full))


def _measure_omissions(source: Source, rules: ExclusionRules, gone: RemovedPaths) -> Iterable[str]:
    """Look at what was not read, as far as that says whether it is large; the places that have more."""
    measuring = OmissionSelection(rules)
    with source.outline(measuring) as outline:
        if outline is not None:
            outline.select(ObservedSelection(rules.selection, gone.add))
    return measuring.full


@contextmanager
def open_tree(
    source: Source, choose: Callable[[], Selection], lock_timeout: float, faults: Faults, report: Report
) -> Iterator[Tree]:
    """What a selection takes in of a source, whose packages stay as they are meanwhile; it is chosen when they do.

    Where all is read from snapshots, that is until there is the tree.
    """
    with ExitStack() as opened, ExitStack() as locked:
        for note in locked.enter_context(source.hold_packages(lock_timeout, report.note)):
            report.note(note)
        with report.step("reading the tree"):
            tree = opened.enter_context(source.open(choose(), faults))
        if source.plan().is_frozen:
            locked.close()
        yield tree
