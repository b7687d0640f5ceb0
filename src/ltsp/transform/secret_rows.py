"""The table of secrets (`lists/image.secrets`): which paths may hold one, and what is done with each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from ltsp.errors import ConfError
from ltsp.transform import rules
from ltsp.transform.exclude import find_fault
from ltsp.transform.links import LinkPolicy
from ltsp.transform.named_places import PARSERS
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rewrite import CONTENT_TESTS, REWRITERS
from ltsp.transform.rules import ListLine, TunedList, read_built_in, tune_list


class Action(Enum):
    """What a row does with the paths that it matches."""

    LEFT_OUT = "X"
    MADE_BY_CLIENT = "R"
    """Left out, and the client generates its own when it boots."""
    EMPTIED = "T"
    REWRITTEN = "F"
    LISTS_PATHS = "N"
    """Stays; the paths in it are left out, or reported."""
    REPORTED = "W"
    KEPT = "K"
    """Stays, whatever other rows say about it or a directory above it."""


ACTIVE_SWAP = "active swap"
UNPACKAGED = "added"
"""For a row W: only files that no package tool installed."""
ANYWHERE_PREFIX = "**/"
_REMOVING_ACTIONS = frozenset({Action.LEFT_OUT, Action.MADE_BY_CLIENT})
_ROW_PATTERN = re.compile(r"(?P<action>[XRTFNWK])(?:=(?P<name>[\w-]+))?\s+(?P<pattern>\S+)(?:\s+(?P<reason>.*))?")
_NAMES_BY_ACTION = {
    Action.REWRITTEN: REWRITERS.keys(),
    Action.LISTS_PATHS: PARSERS.keys(),
    Action.REPORTED: CONTENT_TESTS.keys() | {"", UNPACKAGED},
}
"""The names that an action accepts; other actions have none."""


@dataclass(frozen=True, slots=True)
class SecretRow:
    action: Action
    pattern: str
    name: str = ""
    """The name of a rewriter (F), a parser (N) or a test (W)."""
    reason: str = ""
    consequence: str = ""
    """What clients lack because of it, printed in every run; empty if nobody would miss it."""
    derived_from: str = ""
    """For a row that is not in a list: the row N of the file with this place, or ACTIVE_SWAP."""

    def __str__(self) -> str:
        return self.derived_from or f"{self.action.value}{'=' + self.name if self.name else ''} {self.pattern}"

    @property
    def keeping_setting(self) -> str:
        """The setting that keeps what it leaves out."""
        if self.derived_from == ACTIVE_SWAP:
            return f"ADD_IMAGE_SECRETS='K {self.pattern}'"
        return f"OMIT_IMAGE_SECRETS='{self.derived_from or self.pattern}'"

    @property
    def reports_name_anywhere(self) -> bool:
        """Whether it warns about a name in any directory. Such a row is applied to the tree only."""
        name = self.pattern.removeprefix(ANYWHERE_PREFIX)
        return self.action is Action.REPORTED and name != self.pattern and "/" not in name

    @property
    def is_plain(self) -> bool:
        return all(map(is_plain, self.pattern.split("/")))

    @classmethod
    def parse(cls, text: str) -> SecretRow:
        """Raises ValueError with the reason."""
        match = _ROW_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError("expected an action (X R T F=NAME N=NAME W K), a pattern and a reason")
        action, name, pattern = Action(match["action"]), match["name"] or "", match["pattern"]
        names = _NAMES_BY_ACTION.get(action, {""})
        if name not in names:
            allowed = ", ".join(sorted(names - {""}))
            raise ValueError(
                f"{action.value}=NAME must be one of {allowed}" if allowed else f"{action.value} takes no =NAME"
            )
        if (fault := find_fault(pattern)) is not None:
            raise ValueError(fault)
        reason, _, consequence = (match["reason"] or "").partition(" | ")
        return cls(action, pattern, name, reason.strip(), consequence.strip())


KEEPING_ACTIONS = frozenset({Action.KEPT, Action.REPORTED, Action.LISTS_PATHS})
"""Actions whose paths stay as they are."""
LINK_POLICY: LinkPolicy[SecretRow] = LinkPolicy(
    follows_final_link=lambda row: row.action in _REMOVING_ACTIONS or row.action is Action.KEPT,
    removes_data=lambda row: row.action not in KEEPING_ACTIONS,
    kind=lambda row: (row.action, row.name),
)
"""Rows T and F resolve a link that they match themselves; a row W reports the link itself."""


@dataclass(frozen=True, slots=True)
class SecretRows:
    """The list after ADD and OMIT."""

    rows: tuple[SecretRow, ...]
    warnings: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    """The patterns of removed rows."""


def tune_image_secrets(
    site: Iterator[ListLine] | None = None,
    add: Iterable[ListLine] = (),
    omit: Iterable[ListLine] = (),
    swaps: Iterable[str] = (),
) -> SecretRows:
    """The rows for an image: the site's own, as of /etc/ltsp/image.secrets, or the built-in ones, tuned.

    A row is added in place of one with the same pattern. To omit one, its pattern is enough, but for rows N. `swaps`:
    the paths of active swap files, relative to the root. Raises ConfError, which names every bad line.
    """
    base = chain(read_built_in("image.secrets"), rules.read_secret_rows()) if site is None else site
    result: TunedList = tune_list(base, iter(add), iter(omit), _row_key)
    rows: list[SecretRow] = []
    faults: list[str] = []
    for line in result.lines:
        try:
            rows.append(SecretRow.parse(line.text))
        except ValueError as error:
            faults.append(f"{line}: {error}")
    if faults:
        raise ConfError("; ".join(faults), "a row looks like this: X etc/app.key  the key of app")
    rows += (
        SecretRow(Action.LEFT_OUT, literal(path), reason="contents of memory", derived_from=ACTIVE_SWAP)
        for path in swaps
    )
    omitted = tuple(match["pattern"] for line in result.omitted if (match := _ROW_PATTERN.fullmatch(line.text)))
    return SecretRows(tuple(rows), result.warnings, omitted)


def _row_key(text: str) -> str:
    """The identity of a row: its pattern; a file may have rows N in addition to another row."""
    match = _ROW_PATTERN.fullmatch(text)
    if match is None:
        return text
    return f"N={match['name']} {match['pattern']}" if match["action"] == Action.LISTS_PATHS.value else match["pattern"]


def select_removing_rows(rows: tuple[SecretRow, ...]) -> tuple[SecretRow, ...]:
    """The rows that leave out a path."""
    return tuple(row for row in rows if row.action in _REMOVING_ACTIONS)
