"""`ltsp image --dry-run`: what a build would leave out and change, by rule and with sizes; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltsp.build.exclusions import ExclusionRules
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.transform.cleanup import CleanedTree
from ltsp.transform.survey import Removal, RemovedPaths
from ltsp.tree.name import printable
from ltsp.tree.selection import ObservedSelection, combine_selections
from ltsp.tree.tree import Tree

_MOST_SHOWN = 3
"""Paths of a rule that a line names; --json lists all."""


def apply_rules(whole: Tree, rules: ExclusionRules) -> tuple[Tree, list[Removal]]:
    """Apply the rules to a complete tree: the rest, and what each rule leaves out, largest first."""
    selection = combine_selections(rules.selection, rules.exact_selection(whole))
    gone = RemovedPaths()
    left = whole.select(ObservedSelection(selection, gone.add))
    return left, sorted(gone.removals(rules.rule), key=lambda one: (-one.bytes, one.rule))


def show(gone: Sequence[Removal], cleaned: CleanedTree, report: Report) -> None:
    rows = [
        (printable(one.rule), units.plural(one.files, "file"), units.size(one.bytes), _list_paths(one.paths))
        for one in gone
    ]
    report.table(("left out by", "files", "size", "paths"), rows)
    rows = [
        (printable(step.rule), units.plural(len(step.paths), "file"), units.size(step.bytes), _list_paths(step.paths))
        for step in cleaned.steps
    ]
    if rows:
        report.table(("rewritten by", "files", "smaller by", "paths"), rows)


def facts(gone: Sequence[Removal], cleaned: CleanedTree) -> Mapping[str, object]:
    """The same as data, with every path."""
    return {
        "left_out": [
            {"rule": one.rule, "files": one.files, "bytes": one.bytes, "paths": list(one.paths)} for one in gone
        ],
        "rewritten": [{"rule": step.rule, "bytes": step.bytes, "paths": list(step.paths)} for step in cleaned.steps],
    }


def _list_paths(paths: Sequence[str]) -> str:
    shown = ", ".join(printable(path) for path in paths[:_MOST_SHOWN])
    return f"{shown}, and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else shown
