"""What an image leaves out and clients may need: reported in every run, with the setting that keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ltsp.build.exclusions import ExclusionRules
from ltsp.report import units
from ltsp.transform.cleanup import CleanedTree
from ltsp.transform.rewrite import LOSSES, MOST
from ltsp.transform.secret_rows import Action
from ltsp.transform.survey import Removal
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.selection import Inclusion
from ltsp.tree.tree import Tree

LARGE = 100 << 20
"""Bytes; so much data is likely to be missed."""
MOST_MEASURED = 2_000
"""How many entries of one place are measured: it may have millions, and is not in the image anyway."""
_NEVER_MISSED = ("dev/", "proc/", "run/", "sys/", "tmp/", "var/cache/", "var/lib/apt/lists/", "var/tmp/")
"""What each system creates itself. hier(7)"""
_MOST_SHOWN = 2
"""Paths that a line names; --json lists all."""


@dataclass(frozen=True, slots=True)
class Omission:
    rule: str
    paths: tuple[str, ...]
    files: int
    bytes: int
    at_least: bool
    """There is more than was measured."""
    consequence: str
    """What does not work on clients without it, if known."""
    keep: str
    """The line for ltsp.conf that keeps it in the image."""

    def __str__(self) -> str:
        shown = ", ".join(f"/{printable(path)}" for path in self.paths[:_MOST_SHOWN])
        more = f" and {len(self.paths) - _MOST_SHOWN} more" if len(self.paths) > _MOST_SHOWN else ""
        size = f" ({'more than ' if self.at_least else ''}{units.size(self.bytes)})" if self.bytes >= LARGE else ""
        consequence = f": {self.consequence}" if self.consequence else ""
        return f"{shown}{more}{size}{consequence}; to keep it: {printable(self.keep)}"


@dataclass(slots=True)
class OmissionSelection:
    """Selects what rules leave out, of each place only enough to tell whether it is large."""

    rules: ExclusionRules
    full: set[str] = field(default_factory=set)
    """Places that have more than was measured."""
    _place: dict[str, str] = field(default_factory=dict)
    """The place that each directory belongs to; empty for the directories above places."""
    _count: dict[str, int] = field(default_factory=dict)

    def __call__(self, path: str, directory: bool) -> Inclusion:
        place = self._place.get(path.rpartition("/")[0], "")
        if not place:
            if self.rules.selection(path, directory) is Inclusion.ALL:
                if directory and self.rules.leads_below(path):
                    self._place[path] = ""
                    return Inclusion.ALL
                return Inclusion.NOTHING
            place = path
        if f"{path}/".startswith(_NEVER_MISSED):
            return Inclusion.NOTHING
        count = self._count[place] = self._count.get(place, 0) + 1
        if count > MOST_MEASURED:
            self.full.add(place)
            return Inclusion.NOTHING
        if directory:
            self._place[path] = place
        return Inclusion.ALL


def find_omissions(
    gone: Iterable[Removal], cleaned: CleanedTree, before: Tree, rules: ExclusionRules, full: Iterable[str] = ()
) -> tuple[Omission, ...]:
    """What clients may need of what rules leave out or remove from files.

    `before`: the tree before files were rewritten. `full`: places that have more than `gone` lists.
    """
    every = (*_omissions_by_rule(gone, rules, tuple(full)), *_omissions_by_rewrite(cleaned, before, rules))
    return tuple(sorted(every, key=lambda each: each.paths))


def _omissions_by_rule(gone: Iterable[Removal], rules: ExclusionRules, full: Sequence[str]) -> Iterator[Omission]:
    for each in gone:
        paths = tuple(path for path in each.paths if not f"{path}/".startswith(_NEVER_MISSED))
        consequences = (rules.secrets.consequence(path) for path in paths) if rules.cleanup else ()
        consequence = next(filter(None, consequences), "")
        keep = rules.keep_setting(paths[0]) if paths else ""
        if keep and (consequence or each.bytes >= LARGE):
            at_least = any(f"{path}/".startswith(f"{place}/") for path in paths for place in full)
            yield Omission(each.rule, paths, each.files, each.bytes, at_least, consequence, keep)


def _omissions_by_rewrite(cleaned: CleanedTree, before: Tree, rules: ExclusionRules) -> Iterator[Omission]:
    rows = {
        path: row for row, paths in rules.secrets.find_edited(before, (Action.REWRITTEN,)).items() for path in paths
    }
    for path, row in rows.items():
        file = before.follow(path)
        changed = any(before.resolve(path) in step.paths for step in cleaned.steps)
        if not row.consequence or row.name not in LOSSES or not changed or not isinstance(file, File):
            continue
        noun, count_in = LOSSES[row.name]
        count = count_in(read_small_file(file, path, MOST, Faults(skip_unreadable=True)))
        if count:
            consequence = f"{units.plural(count, noun)}: {row.consequence}"
            keep = f"OMIT_IMAGE_SECRETS='{row.pattern}'"
            yield Omission(str(row), (path,), 0, 0, at_least=False, consequence=consequence, keep=keep)
