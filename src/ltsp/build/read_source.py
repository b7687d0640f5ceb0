"""A source read as rules say, wherever its own links lead them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.build.exclusions import Rules
from ltsp.build.omissions import Measuring
from ltsp.report.report import Report
from ltsp.source.source import Source
from ltsp.transform.survey import Gone, Removal
from ltsp.tree.faults import Faults
from ltsp.tree.selection import Selection, Watched
from ltsp.tree.tree import Tree

_OUTLINES = 4
"""Looks at where links lead, each behind those of the one before; what is still behind others is read in vain."""


@dataclass(frozen=True, slots=True)
class Selected:
    tree: Tree
    """What the rules leave."""
    rules: Rules
    """As they hold in this tree."""
    gone: tuple[Removal, ...]
    """What they leave out, as far as that was looked at."""
    full: frozenset[str]
    """Places of which more is left out than was looked at."""


@contextmanager
def selected(source: Source, rules: Rules, lock_timeout: float, faults: Faults, report: Report) -> Iterator[Selected]:
    """What rules leave of a source."""
    outlined = False
    gone = Gone()

    def reading() -> Selection:
        nonlocal rules, outlined
        for _ in range(_OUTLINES):
            with source.outline(rules.outlined) as outline:
                if outline is None:
                    return Watched(rules.reading(outlined=False), gone.add)
                before, rules = rules, rules.following(outline, beyond=True)
            if rules == before:
                break
        outlined = True
        return rules.reading(outlined=True)

    with taken(source, reading, lock_timeout, faults, report) as read:
        rules = rules.following(read)
        tree = read.select(Watched(rules.selection, gone.add), rules.concern)
        full = _measure(source, rules, gone) if outlined else ()
        yield Selected(tree, rules, tuple(gone.removals(rules.rule)), frozenset(full))


def _measure(source: Source, rules: Rules, gone: Gone) -> Iterable[str]:
    """Look at what was not read, as far as that says whether it is large; the places that have more."""
    measuring = Measuring(rules)
    with source.outline(measuring) as outline:
        if outline is not None:
            outline.select(Watched(rules.selection, gone.add))
    return measuring.full


@contextmanager
def taken(
    source: Source, choose: Callable[[], Selection], lock_timeout: float, faults: Faults, report: Report
) -> Iterator[Tree]:
    """What a selection takes in of a source, whose packages stay as they are meanwhile; it is chosen when they do.

    Where all is read from snapshots, that is until there is the tree.
    """
    with ExitStack() as opened, ExitStack() as held:
        for note in held.enter_context(source.hold_packages(lock_timeout, report.note)):
            report.note(note)
        with report.step("reading the tree"):
            tree = opened.enter_context(source.open(choose(), faults))
        if source.plan().still:
            held.close()
        yield tree
