"""What is not in an image and may be missed: said in every run, a line each, with how to keep it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ltsp.build.exclusions import Rules
from ltsp.report import units
from ltsp.transform.cleanup import Cleaned
from ltsp.transform.rewrite import LOST, MOST
from ltsp.transform.secrets import Action
from ltsp.transform.survey import Removal
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import File
from ltsp.tree.read_file import read_small
from ltsp.tree.selection import Take
from ltsp.tree.tree import Tree

LARGE = 100 << 20
"""Bytes; whoever gave a disk or a class so much of something will look for it."""
MOST_LOOKED_AT = 2_000
"""Entries of one place that are looked at for their sizes: it may have millions, and is not in the image anyway."""
_NEVER_MISSED = ("dev/", "proc/", "run/", "sys/", "tmp/", "var/cache/", "var/lib/apt/lists/", "var/tmp/")
"""What each system makes for itself. hier(7)"""
_SHOWN = 2
"""Paths of a line; --json has all."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    rule: str
    paths: tuple[str, ...]
    files: int
    bytes: int
    at_least: bool
    """There is more than what was looked at."""
    consequence: str
    """What clients do without, where that is known."""
    keep: str
    """What to write into ltsp.conf, so that it is in the image."""

    def __str__(self) -> str:
        shown = ", ".join(f"/{printable(path)}" for path in self.paths[:_SHOWN])
        more = f" and {len(self.paths) - _SHOWN} more" if len(self.paths) > _SHOWN else ""
        size = f" ({'more than ' if self.at_least else ''}{units.size(self.bytes)})" if self.bytes >= LARGE else ""
        consequence = f": {self.consequence}" if self.consequence else ""
        return f"{shown}{more}{size}{consequence}; to keep it: {printable(self.keep)}"


@dataclass(slots=True)
class Measuring:
    """A selection of what rules leave out, and of no more of each place than says whether it is large."""

    rules: Rules
    full: set[str] = field(default_factory=set)
    """Places that have more than was looked at."""
    _place: dict[str, str] = field(default_factory=dict)
    """The place that each directory belongs to; none for those on the way."""
    _count: dict[str, int] = field(default_factory=dict)

    def __call__(self, path: str, directory: bool) -> Take:
        place = self._place.get(path.rpartition("/")[0], "")
        if not place:
            if self.rules.selection(path, directory) is Take.ALL:
                if directory and self.rules.leads_below(path):
                    self._place[path] = ""
                    return Take.ALL
                return Take.NOTHING
            place = path
        if f"{path}/".startswith(_NEVER_MISSED):
            return Take.NOTHING
        count = self._count[place] = self._count.get(place, 0) + 1
        if count > MOST_LOOKED_AT:
            self.full.add(place)
            return Take.NOTHING
        if directory:
            self._place[path] = place
        return Take.ALL


def left_out(
    gone: Iterable[Removal], cleaned: Cleaned, before: Tree, rules: Rules, full: Iterable[str] = ()
) -> tuple[LeftOut, ...]:
    """What may be missed of what rules leave out, or take out of files.

    `before`: the tree as it was when the files were rewritten. `full`: places that hold more than what is gone.
    """
    every = (*_left_out(gone, rules, tuple(full)), *_rewritten(cleaned, before, rules))
    return tuple(sorted(every, key=lambda each: each.paths))


def _left_out(gone: Iterable[Removal], rules: Rules, full: Sequence[str]) -> Iterator[LeftOut]:
    for each in gone:
        paths = tuple(path for path in each.paths if not f"{path}/".startswith(_NEVER_MISSED))
        consequences = (rules.secrets.consequence(path) for path in paths) if rules.cleanup else ()
        consequence = next(filter(None, consequences), "")
        keep = rules.to_keep(paths[0]) if paths else ""
        if keep and (consequence or each.bytes >= LARGE):
            at_least = any(f"{path}/".startswith(f"{place}/") for path in paths for place in full)
            yield LeftOut(each.rule, paths, each.files, each.bytes, at_least, consequence, keep)


def _rewritten(cleaned: Cleaned, before: Tree, rules: Rules) -> Iterator[LeftOut]:
    rows = {path: row for row, paths in rules.secrets.edited(before, (Action.REWRITTEN,)).items() for path in paths}
    for path, row in rows.items():
        file = before.follow(path)
        changed = any(before.resolve(path) in step.paths for step in cleaned.steps)
        if not row.consequence or row.name not in LOST or not changed or not isinstance(file, File):
            continue
        noun, count_in = LOST[row.name]
        count = count_in(read_small(file, path, MOST, Faults(skip_unreadable=True)))
        if count:
            consequence = f"{units.counted(count, noun)}: {row.consequence}"
            keep = f"OMIT_IMAGE_SECRETS='{row.pattern}'"
            yield LeftOut(str(row), (path,), 0, 0, at_least=False, consequence=consequence, keep=keep)
