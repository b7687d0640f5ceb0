"""The table of secrets, applied to a source and to its tree.

Rows that leave out a path are applied while a source is scanned (`take`); rows that change a file, and those
that only warn, are applied to the tree by `cleanup`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ltsp.transform.accounts import LOGIN_DEFS, IdRanges
from ltsp.transform.exclude import Exclusions
from ltsp.transform.links import LinkedRules, Paths, follow_links, is_needed
from ltsp.transform.named_places import READERS, PlaceKind, find_places, settings_text
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rules import LIST_SYNTAX, PathRules, RuleLevel
from ltsp.transform.secret_rows import ANYWHERE, HARMLESS, LINK_POLICY, Action, SecretRow, select_removing_rows
from ltsp.tree.name import encode, printable, sort_names
from ltsp.tree.node import Directory, File, Node, Symlink
from ltsp.tree.selection import Inclusion
from ltsp.tree.tree import Tree

_SYNTAX = replace(LIST_SYNTAX, deep=True)
_SHOWN = 4
"""Exclusions in one message."""


@dataclass(frozen=True, slots=True)
class SecretFinding:
    """A path that stays in the image and may hold a secret."""

    path: str
    row: SecretRow
    files: int = 1
    """Number of files in a directory."""
    example: str = ""
    """One of them."""
    others: tuple[str, ...] = ()
    """Files of the same kind, reported in one line."""

    def __str__(self) -> str:
        example = f", such as /{printable(self.example)}" if self.example not in {"", self.path} else ""
        inside = (
            f" ({amount} file{'s' if amount > 1 else ''}{example})" if (amount := self.files) > 1 or example else ""
        )
        more = f" and {len(self.others)} more" if self.others else ""
        reason = self.row.reason or "may hold a secret"
        return f"/{printable(self.path)}{inside}{more}: {reason}{self._remedy() if self.row.is_anywhere else ''}"

    def _remedy(self) -> str:
        first, *rest = map(printable, self._exclude_patterns())
        if not rest:
            return f"; to exclude it: ADD_IMAGE_EXCLUDES='{first}'"
        shown = ", ".join([first, *rest[: _SHOWN - 1]])
        more = f" and {len(rest) - _SHOWN + 1} more" if len(rest) >= _SHOWN else ""
        return f"; to exclude them, add these lines to ADD_IMAGE_EXCLUDES: {shown}{more}"

    def _exclude_patterns(self) -> list[str]:
        """The exclusions for copies of systems: the directory that contains their etc, or the parent of several."""
        paths = (self.path, *self.others)
        roots = [path.rpartition("/etc/")[0] for path in paths]
        if all(roots) and not is_needed(common := posixpath.commonpath(roots)):
            return [f"{literal(common)}/*"]
        each = (f"{literal(root)}/*" if root else literal(path) for path, root in zip(paths, roots, strict=True))
        return list(dict.fromkeys(each))


class Secrets:
    """The rows, compiled.

    `readmitted`: the exclusions that OMIT_IMAGE_EXCLUDES took out of their list. What they name is free of its row.
    """

    def __init__(
        self,
        rows: Iterable[SecretRow],
        let_in: Exclusions | None = None,
        behind: Iterable[tuple[str, SecretRow]] = (),
        kept: frozenset[str] = frozenset(),
        omitted: Iterable[str] = (),
    ) -> None:
        """`link_patterns`: patterns of places behind links, each with the row that leads there. `named_links`: links to
        directories that rows name, and which hold no more than the name of that place. `omitted`: patterns of rows that
        OMIT_IMAGE_SECRETS took out; what they name stays although settings files name it, too.
        """
        self.rows = tuple(rows)
        self._behind = tuple(behind)
        self._kept = kept
        self._omitted = tuple(omitted)
        every = self._every()
        self._rules: PathRules[SecretRow] = PathRules(every, _SYNTAX)
        self._keep = Exclusions((pattern for pattern, row in every if row.action is Action.KEPT), _SYNTAX)
        self._let_in = Exclusions(()) if let_in is None else let_in

    def _every(self) -> list[tuple[str, SecretRow]]:
        """The rows to follow through links."""
        return [*((row.pattern, row) for row in self.rows if not row.is_anywhere), *self._behind]

    def follow_links(self, tree: Tree, paths: Paths) -> tuple[Secrets, LinkedRules[SecretRow]]:
        """The rows as they apply to a tree with its links; see `links.follow`."""
        every = self._every()
        gone = replace(paths, gone=lambda path: paths.gone(path) or self.row(path) is not None)
        led = follow_links(every, tree, _SYNTAX, LINK_POLICY, gone)
        let_in, _ = self._let_in.follow_links(tree, paths)
        behind = tuple(dict.fromkeys((*self._behind, *led.patterns)))
        kept = self._kept if paths.beyond else self._kept | led.kept
        if (behind, let_in, kept) == (self._behind, self._let_in, self._kept):
            return self, led
        return Secrets(self.rows, let_in, behind, kept, self._omitted), led

    def add_named_places(self, tree: Tree, *, beyond: bool = False) -> Secrets:
        """The rows, with added ones for the paths in settings files of this tree; see rows N.

        What the system needs is not left out, whatever they say. `beyond`: whether the tree is an outline, so
        that what it lacks may still exist.
        """
        rows = list(self.rows)
        omitted = Exclusions(self._omitted, _SYNTAX)
        limits = IdRanges.parse(settings_text(tree, path) for path in LOGIN_DEFS)
        for row, paths in self.find_edited(tree, (Action.NAMED,)).items():
            kind, _ = READERS[row.name]
            action = Action.WARNED_OF if kind is PlaceKind.DOUBTFUL else Action.LEFT_OUT
            for path in paths:
                for place in find_places(row.name, settings_text(tree, path), limits):
                    node = tree.follow(place)
                    known = isinstance(node, File if kind is PlaceKind.FILE else Directory)
                    needed = is_needed(tree.resolve(place) or place)
                    if (known or (node is None and beyond)) and not needed and omitted.rule(place) is None:
                        fate = replace(row, action=action, pattern=literal(place), name="", derived_from=str(row))
                        rows.append(fate)
        fresh = tuple(dict.fromkeys(rows))
        return self if fresh == self.rows else Secrets(fresh, self._let_in, self._behind, self._kept, self._omitted)

    def settings_left_out(self) -> frozenset[str]:
        """Directories that are emptied after rows N have read settings in them: redis.conf contains a password, too."""
        naming = (row.pattern.rpartition("/")[0] for row in self.rows if row.action is Action.NAMED)
        return frozenset(
            path
            for path in naming
            if all(map(is_plain, path.split("/"))) and self.take(path, True) is not Inclusion.ALL
        )

    def leads_below(self, directory: str) -> bool:
        """Whether some row matches entries of a directory."""
        return self._rules.level(directory).leads_on

    def concerns(self, directory: str) -> bool:
        """Whether some row matches entries of a directory, or a directory above."""
        return not self._rules.level(directory).is_free

    def take(self, path: str, directory: bool) -> Inclusion:
        """Whether a path is included; a `Selection`."""
        parent, _, name = path.rpartition("/")
        level = self._rules.level(parent)
        if level.is_free:
            return Inclusion.ALL
        own = select_removing_rows(level.values(name))
        above = select_removing_rows(level.covered)
        if not own and not above and not (directory and select_removing_rows(self._rules.level(path).every)):
            return Inclusion.ALL
        if self._is_kept(path) or (directory and self._contains_kept(path)):
            return Inclusion.ALL
        if path in self._kept and not directory and not above:
            return Inclusion.ALL
        return Inclusion.EMPTIED if directory and not above else Inclusion.NOTHING

    def row(self, path: str) -> SecretRow | None:
        """The row that leaves out a path, or a directory above it."""
        going = select_removing_rows(self._rules.matches(path))
        return going[0] if going and not self._is_kept(path) else None

    def rule(self, path: str) -> str | None:
        """That row as text."""
        row = self.row(path)
        return None if row is None else str(row)

    def consequence(self, path: str) -> str:
        """What clients lack because a path is left out, if worth a note."""
        return next((row.consequence for row in select_removing_rows(self._rules.matches(path)) if row.consequence), "")

    def is_private(self, path: str) -> bool:
        """Whether the content of a file must not be published: it is left out, truncated or rewritten."""
        return any(row.action not in HARMLESS for row in self._rules.matches(path))

    def find_edited(self, tree: Tree, actions: Iterable[Action]) -> dict[SecretRow, list[str]]:
        """The paths that each row with these actions matches, in the order of the rows.

        A pattern without wildcards is given as it is, whether there is such a path or not.
        """
        wanted = frozenset(actions)
        paths: dict[SecretRow, list[str]] = {row: [] for row in self.rows if row.action in wanted}
        for row, found in paths.items():
            if row.is_plain and not self._is_kept(row.pattern):
                found.append(row.pattern)
        for path, _, rows in self._find_matches(tree):
            if not self._is_kept(path):
                for row in rows:
                    if row in paths and not row.is_plain:
                        paths[row].append(path)
        return paths

    def findings(self, tree: Tree) -> list[SecretFinding]:
        """The paths in the tree that rows W match, sorted; their tests are not applied here."""
        named = [
            SecretFinding(path, row, files)
            for path, node, rows in self._find_matches(tree)
            for row in rows
            if row.action is Action.WARNED_OF and not self._is_kept(path) and (files := _count_files(node, row))
        ]
        return sorted([*named, *self._anywhere(tree)], key=lambda finding: encode(finding.path))

    def _anywhere(self, tree: Tree) -> Iterator[SecretFinding]:
        """The matches of rows for a name in any directory, without files that another row matches."""
        rows = [(row.pattern.removeprefix(ANYWHERE), row) for row in self.rows if row.is_anywhere]
        level = PathRules(rows, _SYNTAX).level("")
        for path, node in tree.walk() if rows else ():
            found = level.values(path.rpartition("/")[2])
            if found and isinstance(node, File) and not self._is_kept(path) and not self.is_private(path):
                yield from (SecretFinding(path, row) for row in found)

    def let_in(self, tree: Tree) -> list[SecretFinding]:
        """Paths in the tree that a row would leave out, but OMIT_IMAGE_EXCLUDES keeps."""
        return [
            SecretFinding(path, row, max(1, _count_files(node, row)))
            for path, node, rows in self._find_matches(tree)
            for row in select_removing_rows(rows)[:1]
            if self._let_in.rule(path) is not None
        ]

    def _is_kept(self, path: str) -> bool:
        return self._keep.rule(path) is not None or self._let_in.rule(path) is not None

    def _contains_kept(self, directory: str) -> bool:
        return self._keep.leads_below(directory) or self._let_in.leads_below(directory)

    def _find_matches(self, tree: Tree) -> Iterator[tuple[str, Node, tuple[SecretRow, ...]]]:
        """The paths that rows match directly, sorted; only directories that a row leads into are visited."""
        pending: list[Iterator[tuple[str, Node, RuleLevel[SecretRow]]]] = [
            _list_entries("", tree.root, self._rules.level(""))
        ]
        while pending:
            for path, node, level in pending[-1]:
                rows = level.values(path.rpartition("/")[2])
                if rows:
                    yield path, node, rows
                if isinstance(node, Directory) and (below := self._rules.level(path)).leads_on:
                    pending.append(_list_entries(path + "/", node, below))
                    break
            else:
                pending.pop()


def _list_entries(
    prefix: str, directory: Directory, level: RuleLevel[SecretRow]
) -> Iterator[tuple[str, Node, RuleLevel[SecretRow]]]:
    for name in sort_names(list(directory.entries)):
        yield prefix + name, directory.entries[name], level


def _count_files(node: Node, row: SecretRow) -> int:
    """How many files a row matches here. A link counts if the row spells it out, like its target."""
    match node:
        case Directory():
            return sum(isinstance(below, File) for _, below in Tree(node).walk())
        case Symlink():
            return int(row.is_plain)
        case _:
            return 1
