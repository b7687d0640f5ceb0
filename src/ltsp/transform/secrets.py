"""Secrets and the identity of one machine: which paths they lie at, and what becomes of each.

The list is data (`lists/image.secrets`). Rows that leave a path out are asked while a source is scanned (`take`); rows
that change a file, and those that only warn, are looked up in the tree by `cleanup`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import chain

from ltsp.errors import ConfError
from ltsp.transform import tools
from ltsp.transform.accounts import LOGIN_DEFS, Limits
from ltsp.transform.exclude import Exclusions, fault
from ltsp.transform.lines import Line, Tuned, built_in, tuned
from ltsp.transform.links import Led, Meaning, Paths, follow, is_needed
from ltsp.transform.named_places import READERS, Named, places, settings_text
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rewrite import REWRITERS, TESTS
from ltsp.transform.rules import LISTS, Level, Rules
from ltsp.tree.name import encode, in_order, printable
from ltsp.tree.node import Directory, File, Node, Symlink
from ltsp.tree.selection import Take
from ltsp.tree.tree import Tree


class Action(Enum):
    """What becomes of what a row names."""

    LEFT_OUT = "X"
    MADE_BY_CLIENT = "R"
    """Left out, and the client makes its own when it boots."""
    EMPTIED = "T"
    REWRITTEN = "F"
    NAMED = "N"
    """Stays; what it names is left out, or warned of."""
    WARNED_OF = "W"
    KEPT = "K"
    """Stays, whatever other rows say of it or of what it lies in."""


ACTIVE_SWAP = "active swap"
ADDED = "added"
"""Of a row W: only of files that no package tool brought."""
_ANYWHERE = "**/"
_GOES = frozenset({Action.LEFT_OUT, Action.MADE_BY_CLIENT})
_SYNTAX = replace(LISTS, deep=True)
_ROW = re.compile(r"(?P<action>[XRTFNWK])(?:=(?P<name>[\w-]+))?\s+(?P<pattern>\S+)(?:\s+(?P<reason>.*))?")
_NAMES = {
    Action.REWRITTEN: REWRITERS.keys(),
    Action.NAMED: READERS.keys(),
    Action.WARNED_OF: TESTS.keys() | {"", ADDED},
}
"""The names that a row of an action may give; other actions have none."""


@dataclass(frozen=True, slots=True)
class Row:
    action: Action
    pattern: str
    name: str = ""
    """Of a rewriter (F), a reader (N) or a test (W)."""
    reason: str = ""
    consequence: str = ""
    """What clients do without it, where somebody may miss it; that is said in every run."""
    made_of: str = ""
    """Of a row that no list has: the row N of the file that names this place, or ACTIVE_SWAP."""

    def __str__(self) -> str:
        return self.made_of or f"{self.action.value}{'=' + self.name if self.name else ''} {self.pattern}"

    @property
    def to_keep(self) -> str:
        """The setting that lets in what it leaves out."""
        if self.made_of == ACTIVE_SWAP:
            return f"ADD_IMAGE_SECRETS='K {self.pattern}'"
        return f"OMIT_IMAGE_SECRETS='{self.made_of or self.pattern}'"

    @property
    def is_anywhere(self) -> bool:
        """Whether it warns of a name wherever that is. Such a row leads nowhere, and is asked of the tree."""
        name = self.pattern.removeprefix(_ANYWHERE)
        return self.action is Action.WARNED_OF and name != self.pattern and "/" not in name

    @property
    def is_plain(self) -> bool:
        return all(map(is_plain, self.pattern.split("/")))

    @classmethod
    def parse(cls, text: str) -> Row:
        """Raises ValueError, which says what is wrong."""
        match = _ROW.fullmatch(text)
        if match is None:
            raise ValueError("a row is an action (X R T F=NAME N=NAME W K), a pattern and a reason")
        action, name, pattern = Action(match["action"]), match["name"] or "", match["pattern"]
        names = _NAMES.get(action, {""})
        if name not in names:
            raise ValueError(f"{action.value}=NAME is one of {', '.join(sorted(names - {''})) or 'none'}")
        if (wrong := fault(pattern)) is not None:
            raise ValueError(wrong)
        reason, _, consequence = (match["reason"] or "").partition(" | ")
        return cls(action, pattern, name, reason.strip(), consequence.strip())


_HARMLESS = frozenset({Action.KEPT, Action.WARNED_OF, Action.NAMED})
"""What they name stays as it is."""
_MEANING: Meaning[Row] = Meaning(
    ends=lambda row: row.action in _GOES or row.action is Action.KEPT,
    cuts=lambda row: row.action not in _HARMLESS,
    kind=lambda row: (row.action, row.name),
)
"""Rows T and F look for themselves where a link leads that they name; a link that a row W names is told as it is."""


@dataclass(frozen=True, slots=True)
class SecretRows:
    """The list after it was tuned."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    """The patterns of rows that were taken out."""


def image_secrets(
    site: Iterator[Line] | None = None, add: Iterable[Line] = (), omit: Iterable[Line] = (), swaps: Iterable[str] = ()
) -> SecretRows:
    """The rows for an image: the site's own, as of /etc/ltsp/image.secrets, or the built-in ones, tuned.

    A row is added in place of one with the same pattern. To omit one, its pattern is enough, but for rows N. `swaps`:
    the paths of active swap files, relative to the root. Raises ConfError, which names every bad line.
    """
    base = chain(built_in("image.secrets"), tools.secret()) if site is None else site
    result: Tuned = tuned(base, iter(add), iter(omit), _pattern)
    rows: list[Row] = []
    faults: list[str] = []
    for line in result.lines:
        try:
            rows.append(Row.parse(line.text))
        except ValueError as error:
            faults.append(f"{line}: {error}")
    if faults:
        raise ConfError("; ".join(faults), "a row is like this: X etc/app.key  the key of app")
    rows += (Row(Action.LEFT_OUT, literal(path), reason="contents of memory", made_of=ACTIVE_SWAP) for path in swaps)
    omitted = tuple(match["pattern"] for line in result.omitted if (match := _ROW.fullmatch(line.text)))
    return SecretRows(tuple(rows), result.warnings, omitted)


def _pattern(text: str) -> str:
    """What tells a row from others: its pattern, and rows N are beside the one that says what becomes of that file."""
    match = _ROW.fullmatch(text)
    if match is None:
        return text
    return f"N={match['name']} {match['pattern']}" if match["action"] == Action.NAMED.value else match["pattern"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A path that stays in the image and may hold a secret."""

    path: str
    row: Row
    files: int = 1
    """How many files a directory holds."""
    example: str = ""
    """One of them."""
    others: tuple[str, ...] = ()
    """Files of the same kind, of which one line is enough."""

    def __str__(self) -> str:
        example = f", such as /{printable(self.example)}" if self.example not in {"", self.path} else ""
        inside = (
            f" ({amount} file{'s' if amount > 1 else ''}{example})" if (amount := self.files) > 1 or example else ""
        )
        more = f" and {len(self.others)} more" if self.others else ""
        remedy = f"; to leave out what lies there: ADD_IMAGE_EXCLUDES='{printable(self._pattern)}'"
        reason = self.row.reason or "may hold a secret"
        return f"/{printable(self.path)}{inside}{more}: {reason}{remedy if self.row.is_anywhere else ''}"

    @property
    def _pattern(self) -> str:
        """The exclusion of a copy: all of a system that has etc in it, of several what they all lie in."""
        roots = [path.rpartition("/etc/")[0] for path in (self.path, *self.others)]
        if not roots[0]:
            return literal(self.path)
        common = posixpath.commonpath(roots)
        return f"{literal(roots[0] if is_needed(common) else common)}/*"


class Secrets:
    """The rows, compiled.

    `let_in`: the exclusions that OMIT_IMAGE_EXCLUDES took out of their list. What they name is free of its row.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        let_in: Exclusions | None = None,
        behind: Iterable[tuple[str, Row]] = (),
        kept: frozenset[str] = frozenset(),
        omitted: Iterable[str] = (),
    ) -> None:
        """`behind`: patterns of places behind links, each with the row that leads there. `kept`: links to directories
        that rows name, and which hold no more than the name of that place. `omitted`: patterns of rows that
        OMIT_IMAGE_SECRETS took out; what they name stays although settings files name it, too.
        """
        self.rows = tuple(rows)
        self._behind = tuple(behind)
        self._kept = kept
        self._omitted = tuple(omitted)
        every = self._every()
        self._rules: Rules[Row] = Rules(every, _SYNTAX)
        self._keep = Exclusions((pattern for pattern, row in every if row.action is Action.KEPT), _SYNTAX)
        self._let_in = Exclusions(()) if let_in is None else let_in

    def _every(self) -> list[tuple[str, Row]]:
        """What leads somewhere."""
        return [*((row.pattern, row) for row in self.rows if not row.is_anywhere), *self._behind]

    def following(self, tree: Tree, paths: Paths) -> tuple[Secrets, Led[Row]]:
        """The rows as they hold in a tree with links in it; see `links.follow`."""
        every = self._every()
        gone = replace(paths, gone=lambda path: paths.gone(path) or self.row(path) is not None)
        led = follow(every, tree, _SYNTAX, _MEANING, gone)
        let_in, _ = self._let_in.following(tree, paths)
        behind = tuple(dict.fromkeys((*self._behind, *led.patterns)))
        kept = self._kept if paths.beyond else self._kept | led.kept
        if (behind, let_in, kept) == (self._behind, self._let_in, self._kept):
            return self, led
        return Secrets(self.rows, let_in, behind, kept, self._omitted), led

    def naming(self, tree: Tree, *, beyond: bool = False) -> Secrets:
        """The rows, and those for what settings files in this tree name; see rows N.

        What the system needs is not left out, whatever they say. `beyond`: the tree is an outline, and what it does not
        have may still be there.
        """
        rows = list(self.rows)
        omitted = Exclusions(self._omitted, _SYNTAX)
        limits = Limits.parse(settings_text(tree, path) for path in LOGIN_DEFS)
        for row, paths in self.edited(tree, (Action.NAMED,)).items():
            kind, _ = READERS[row.name]
            action = Action.WARNED_OF if kind is Named.DOUBTFUL else Action.LEFT_OUT
            for path in paths:
                for place in places(row.name, settings_text(tree, path), limits):
                    node = tree.follow(place)
                    known = isinstance(node, File if kind is Named.FILE else Directory)
                    needed = is_needed(tree.resolve(place) or place)
                    if (known or (node is None and beyond)) and not needed and omitted.rule(place) is None:
                        fate = replace(row, action=action, pattern=literal(place), name="", made_of=str(row))
                        rows.append(fate)
        fresh = tuple(dict.fromkeys(rows))
        return self if fresh == self.rows else Secrets(fresh, self._let_in, self._behind, self._kept, self._omitted)

    def settings_left_out(self) -> frozenset[str]:
        """Directories that are emptied, and in which rows N read settings before: redis.conf has a password, too."""
        naming = (row.pattern.rpartition("/")[0] for row in self.rows if row.action is Action.NAMED)
        return frozenset(
            path for path in naming if all(map(is_plain, path.split("/"))) and self.take(path, True) is not Take.ALL
        )

    def leads_below(self, directory: str) -> bool:
        """Whether some row is about what lies in a directory."""
        return self._rules.level(directory).leads_on

    def concerns(self, directory: str) -> bool:
        """Whether anything is said about what lies in a directory, also by a row for what that lies in."""
        return not self._rules.level(directory).free

    def take(self, path: str, directory: bool) -> Take:
        """What becomes of a path; a `Selection`."""
        parent, _, name = path.rpartition("/")
        level = self._rules.level(parent)
        if level.free:
            return Take.ALL
        own = _going(level.values(name))
        above = _going(level.covered)
        if not own and not above and not (directory and _going(self._rules.level(path).every)):
            return Take.ALL
        if self._spared(path) or (directory and self._leads_to_spared(path)):
            return Take.ALL
        if path in self._kept and not directory and not above:
            return Take.ALL
        return Take.EMPTIED if directory and not above else Take.NOTHING

    def row(self, path: str) -> Row | None:
        """The row that leaves a path out, itself or with what it lies in."""
        going = _going(self._rules.matches(path))
        return going[0] if going and not self._spared(path) else None

    def rule(self, path: str) -> str | None:
        """That row as text."""
        row = self.row(path)
        return None if row is None else str(row)

    def consequence(self, path: str) -> str:
        """What clients do without where a path is left out, if that is worth a word."""
        return next((row.consequence for row in _going(self._rules.matches(path)) if row.consequence), "")

    def is_private(self, path: str) -> bool:
        """Whether a file is not to be seen by others as it is: left out, emptied or rewritten."""
        return any(row.action not in _HARMLESS for row in self._rules.matches(path))

    def edited(self, tree: Tree, actions: Iterable[Action]) -> dict[Row, list[str]]:
        """The paths that each row of these actions is about, in the order of the rows.

        A pattern without wildcards is given as it is, whether there is such a path or not.
        """
        wanted = frozenset(actions)
        paths: dict[Row, list[str]] = {row: [] for row in self.rows if row.action in wanted}
        for row, found in paths.items():
            if row.is_plain and not self._spared(row.pattern):
                found.append(row.pattern)
        for path, _, rows in self._matched(tree):
            if not self._spared(path):
                for row in rows:
                    if row in paths and not row.is_plain:
                        paths[row].append(path)
        return paths

    def findings(self, tree: Tree) -> list[Finding]:
        """What rows W name in the tree, in the order of paths; their tests are not asked here."""
        named = [
            Finding(path, row, files)
            for path, node, rows in self._matched(tree)
            for row in rows
            if row.action is Action.WARNED_OF and not self._spared(path) and (files := _files(node, row))
        ]
        return sorted([*named, *self._anywhere(tree)], key=lambda finding: encode(finding.path))

    def _anywhere(self, tree: Tree) -> Iterator[Finding]:
        """What rows for a name wherever it is find, but where another row says what becomes of that file."""
        rows = [(row.pattern.removeprefix(_ANYWHERE), row) for row in self.rows if row.is_anywhere]
        level = Rules(rows, _SYNTAX).level("")
        for path, node in tree.walk() if rows else ():
            found = level.values(path.rpartition("/")[2])
            if found and isinstance(node, File) and not self._spared(path) and not self.is_private(path):
                yield from (Finding(path, row) for row in found)

    def let_in(self, tree: Tree) -> list[Finding]:
        """What is in the tree although a row leaves it out, because OMIT_IMAGE_EXCLUDES let it in."""
        return [
            Finding(path, row, max(1, _files(node, row)))
            for path, node, rows in self._matched(tree)
            for row in _going(rows)[:1]
            if self._let_in.rule(path) is not None
        ]

    def _spared(self, path: str) -> bool:
        return self._keep.rule(path) is not None or self._let_in.rule(path) is not None

    def _leads_to_spared(self, directory: str) -> bool:
        return self._keep.leads_below(directory) or self._let_in.leads_below(directory)

    def _matched(self, tree: Tree) -> Iterator[tuple[str, Node, tuple[Row, ...]]]:
        """What rows name themselves, in the order of paths; only directories that a row leads into are looked at."""
        pending: list[Iterator[tuple[str, Node, Level[Row]]]] = [_listed("", tree.root, self._rules.level(""))]
        while pending:
            for path, node, level in pending[-1]:
                rows = level.values(path.rpartition("/")[2])
                if rows:
                    yield path, node, rows
                if isinstance(node, Directory) and (below := self._rules.level(path)).leads_on:
                    pending.append(_listed(path + "/", node, below))
                    break
            else:
                pending.pop()


def _listed(prefix: str, directory: Directory, level: Level[Row]) -> Iterator[tuple[str, Node, Level[Row]]]:
    for name in in_order(list(directory.entries)):
        yield prefix + name, directory.entries[name], level


def _going(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Those rows that leave a path out."""
    return tuple(row for row in rows if row.action in _GOES)


def _files(node: Node, row: Row) -> int:
    """How many files a row is about here. A link counts where the row spells it out, as what it leads to does."""
    match node:
        case Directory():
            return sum(isinstance(below, File) for _, below in Tree(node).walk())
        case Symlink():
            return int(row.is_plain)
        case _:
            return 1
