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

_MAX_OUTLINE_PASSES = 4
"""Passes that follow links before reading; what lies behind further links is read in vain."""


@dataclass(frozen=True, slots=True)
class SelectedTree:
    tree: Tree
    """What remains after the rules."""
    rules: ExclusionRules
    """As they apply to this tree."""
    removals: tuple[Removal, ...]
    """What they leave out, as far as it was measured."""
    partly_measured: frozenset[str]
    """Places with more left out than was measured."""


@contextmanager
def open_selected_tree(
    source: Source, rules: ExclusionRules, lock_timeout: float, faults: Faults, report: Report
) -> Iterator[SelectedTree]:
    """The tree of a source after the rules."""
    links_known = False
    removed = RemovedPaths()

    def selection_for_reading() -> Selection:
        nonlocal rules, links_known
        for _ in range(_MAX_OUTLINE_PASSES):
            with source.peek_tree(rules.link_search_selection) as outline:
                if outline is None:
                    return ObservedSelection(rules.selection_for_reading(links_known=False), removed.add)
                previous, rules = rules, rules.follow_links(outline, is_outline=True)
            if rules == previous:
                break
        links_known = True
        return rules.selection_for_reading(links_known=True)

    with open_tree(source, selection_for_reading, lock_timeout, faults, report) as whole_tree:
        rules = rules.follow_links(whole_tree)
        tree = whole_tree.select(ObservedSelection(rules.selection, removed.add), rules.affects)
        partly_measured = _measure_omissions(source, rules, removed) if links_known else ()
        yield SelectedTree(tree, rules, tuple(removed.group_by_rule(rules.find_rule)), frozenset(partly_measured))


def _measure_omissions(source: Source, rules: ExclusionRules, removed: RemovedPaths) -> Iterable[str]:
    """Measure what was not read, up to a limit; the places that have more."""
    selection = OmissionSelection(rules)
    with source.peek_tree(selection) as outline:
        if outline is not None:
            outline.select(ObservedSelection(rules.selection, removed.add))
    return selection.partly_measured


@contextmanager
def open_tree(
    source: Source, make_selection: Callable[[], Selection], lock_timeout: float, faults: Faults, report: Report
) -> Iterator[Tree]:
    """The selected tree of a source, whose package manager is locked meanwhile.

    `make_selection` is called under that lock. If all is read from snapshots, the lock is released as soon as the
    tree is read.
    """
    with ExitStack() as opened, ExitStack() as locked:
        for note in locked.enter_context(source.lock_package_manager(lock_timeout, report.note)):
            report.note(note)
        with report.step("reading the tree"):
            tree = opened.enter_context(source.open(make_selection(), faults))
        if source.plan().is_frozen:
            locked.close()
        yield tree
