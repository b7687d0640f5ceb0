"""Reading a source according to the exclusion rules, also where its links lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.build.exclusions import ExclusionRules, OmissionSelection
from ltsp.report.report import Report
from ltsp.source.source import Source
from ltsp.transform.survey import Removal, RemovedPaths
from ltsp.tree.faults import Faults
from ltsp.tree.selection import ObservedSelection, Selection
from ltsp.tree.tree import Tree

_MOST_OUTLINES = 4
"""Passes that follow links before reading; what lies behind further links is read in vain."""


@dataclass(frozen=True, slots=True)
class SelectedTree:
    tree: Tree
    """What remains after the rules."""
    rules: ExclusionRules
    """As they apply to this tree."""
    gone: tuple[Removal, ...]
    """What they leave out, as far as it was measured."""
    full: frozenset[str]
    """Places with more left out than was measured."""


@contextmanager
def open_selected_tree(
    source: Source, rules: ExclusionRules, lock_timeout: float, faults: Faults, report: Report
) -> Iterator[SelectedTree]:
    """The tree of a source after the rules."""
    outlined = False
    gone = RemovedPaths()

    def read_selection() -> Selection:
        nonlocal rules, outlined
        for _ in range(_MOST_OUTLINES):
            with source.peek_tree(rules.outline_selection) as outline:
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
    """Measure what was not read, up to a limit; the places that have more."""
    measuring = OmissionSelection(rules)
    with source.peek_tree(measuring) as outline:
        if outline is not None:
            outline.select(ObservedSelection(rules.selection, gone.add))
    return measuring.full


@contextmanager
def open_tree(
    source: Source, choose: Callable[[], Selection], lock_timeout: float, faults: Faults, report: Report
) -> Iterator[Tree]:
    """The selected tree of a source, whose package manager is locked meanwhile.

    `choose` is called under that lock. If all is read from snapshots, the lock is released as soon as the
    tree is read.
    """
    with ExitStack() as opened, ExitStack() as locked:
        for note in locked.enter_context(source.lock_package_manager(lock_timeout, report.note)):
            report.note(note)
        with report.step("reading the tree"):
            tree = opened.enter_context(source.open(choose(), faults))
        if source.plan().is_frozen:
            locked.close()
        yield tree
