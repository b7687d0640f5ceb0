"""The table of secrets, applied to a source and to its tree.

Rows that leave out a path are applied while a source is scanned (`select_path`); rows that change a file, and those
that only warn, are applied to the tree by `cleanup`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ltsp.transform.accounts import LOGIN_DEFS, IdRanges
from ltsp.transform.exclude import Exclusions
from ltsp.transform.links import LinkedRules, PathContext, follow_links, is_needed_by_system
from ltsp.transform.named_places import PARSERS, PlaceKind, find_named_paths, read_settings
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rules import LIST_SYNTAX, PathRules, RuleLevel
from ltsp.transform.secret_rows import (
    ANYWHERE_PREFIX,
    KEEPING_ACTIONS,
    LINK_POLICY,
    Action,
    SecretRow,
    select_removing_rows,
)
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
        return (
            f"/{printable(self.path)}{inside}{more}: {reason}{self._remedy() if self.row.reports_name_anywhere else ''}"
        )

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
        if all(roots) and not is_needed_by_system(common := posixpath.commonpath(roots)):
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
        readmitted: Exclusions | None = None,
        link_patterns: Iterable[tuple[str, SecretRow]] = (),
        named_links: frozenset[str] = frozenset(),
        omitted: Iterable[str] = (),
    ) -> None:
        """`link_patterns`: patterns of places behind links, each with the row that leads there. `named_links`: links to
        directories that rows name, and which hold no more than the name of that place. `omitted`: patterns of rows that
        OMIT_IMAGE_SECRETS took out; what they name stays although settings files name it, too.
        """
        self.rows = tuple(rows)
        self._link_patterns = tuple(link_patterns)
        self._named_links = named_links
        self._omitted = tuple(omitted)
        patterns = self._list_patterns()
        self._rules: PathRules[SecretRow] = PathRules(patterns, _SYNTAX)
        self._keep = Exclusions((pattern for pattern, row in patterns if row.action is Action.KEPT), _SYNTAX)
        self._readmitted = Exclusions(()) if readmitted is None else readmitted

    def _list_patterns(self) -> list[tuple[str, SecretRow]]:
        """The rows to follow through links."""
        return [*((row.pattern, row) for row in self.rows if not row.reports_name_anywhere), *self._link_patterns]

    def follow_links(self, tree: Tree, paths: PathContext) -> tuple[Secrets, LinkedRules[SecretRow]]:
        """The rows as they apply to a tree with its links; see `links.follow`."""
        patterns = self._list_patterns()
        context = replace(paths, is_left_out=lambda path: paths.is_left_out(path) or self.row(path) is not None)
        followed = follow_links(patterns, tree, _SYNTAX, LINK_POLICY, context)
        readmitted, _ = self._readmitted.follow_links(tree, paths)
        link_patterns = tuple(dict.fromkeys((*self._link_patterns, *followed.patterns)))
        named_links = self._named_links if paths.is_outline else self._named_links | followed.named_links
        if (link_patterns, readmitted, named_links) == (self._link_patterns, self._readmitted, self._named_links):
            return self, followed
        return Secrets(self.rows, readmitted, link_patterns, named_links, self._omitted), followed

    def add_named_places(self, tree: Tree, *, is_outline: bool = False) -> Secrets:
        """The rows, with added ones for the paths in settings files of this tree; see rows N.

        What the system needs is not left out, whatever they say. `is_outline`: whether the tree is an outline, so
        that what it lacks may still exist.
        """
        rows = list(self.rows)
        omitted = Exclusions(self._omitted, _SYNTAX)
        id_ranges = IdRanges.parse(read_settings(tree, path) for path in LOGIN_DEFS)
        for row, paths in self.find_paths_by_row(tree, (Action.LISTS_PATHS,)).items():
            kind, _ = PARSERS[row.name]
            action = Action.REPORTED if kind is PlaceKind.DOUBTFUL else Action.LEFT_OUT
            for path in paths:
                for path_named in find_named_paths(row.name, read_settings(tree, path), id_ranges):
                    node = tree.follow(path_named)
                    known = isinstance(node, File if kind is PlaceKind.FILE else Directory)
                    needed = is_needed_by_system(tree.resolve(path_named) or path_named)
                    if (
                        (known or (node is None and is_outline))
                        and not needed
                        and omitted.find_rule(path_named) is None
                    ):
                        new_row = replace(
                            row, action=action, pattern=literal(path_named), name="", derived_from=str(row)
                        )
                        rows.append(new_row)
        new_rows = tuple(dict.fromkeys(rows))
        return (
            self
            if new_rows == self.rows
            else Secrets(new_rows, self._readmitted, self._link_patterns, self._named_links, self._omitted)
        )

    def find_emptied_settings_directories(self) -> frozenset[str]:
        """Directories that are emptied after rows N have read settings in them: redis.conf contains a password, too."""
        naming = (row.pattern.rpartition("/")[0] for row in self.rows if row.action is Action.LISTS_PATHS)
        return frozenset(
            path
            for path in naming
            if all(map(is_plain, path.split("/"))) and self.select_path(path, True) is not Inclusion.ALL
        )

    def has_rules_below(self, directory: str) -> bool:
        """Whether some row matches entries of a directory."""
        return self._rules.level(directory).may_match_below

    def affects(self, directory: str) -> bool:
        """Whether some row matches entries of a directory, or a directory above."""
        return not self._rules.level(directory).is_unaffected

    def select_path(self, path: str, directory: bool) -> Inclusion:
        """Whether a path is included; a `Selection`."""
        parent, _, name = path.rpartition("/")
        level = self._rules.level(parent)
        if level.is_unaffected:
            return Inclusion.ALL
        own = select_removing_rows(level.values(name))
        above = select_removing_rows(level.covering_values)
        if not own and not above and not (directory and select_removing_rows(self._rules.level(path).catch_all_values)):
            return Inclusion.ALL
        if self._is_kept(path) or (directory and self._contains_kept(path)):
            return Inclusion.ALL
        if path in self._named_links and not directory and not above:
            return Inclusion.ALL
        return Inclusion.EMPTIED if directory and not above else Inclusion.NOTHING

    def row(self, path: str) -> SecretRow | None:
        """The row that leaves out a path, or a directory above it."""
        rows = select_removing_rows(self._rules.find_values(path))
        return rows[0] if rows and not self._is_kept(path) else None

    def find_rule(self, path: str) -> str | None:
        """That row as text."""
        row = self.row(path)
        return None if row is None else str(row)

    def consequence(self, path: str) -> str:
        """What clients lack because a path is left out, if worth a note."""
        return next(
            (row.consequence for row in select_removing_rows(self._rules.find_values(path)) if row.consequence), ""
        )

    def is_private(self, path: str) -> bool:
        """Whether the content of a file must not be published: it is left out, truncated or rewritten."""
        return any(row.action not in KEEPING_ACTIONS for row in self._rules.find_values(path))

    def find_paths_by_row(self, tree: Tree, actions: Iterable[Action]) -> dict[SecretRow, list[str]]:
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
            if row.action is Action.REPORTED and not self._is_kept(path) and (files := _count_files(node, row))
        ]
        return sorted([*named, *self._find_anywhere(tree)], key=lambda finding: encode(finding.path))

    def _find_anywhere(self, tree: Tree) -> Iterator[SecretFinding]:
        """The matches of rows for a name in any directory, without files that another row matches."""
        rows = [(row.pattern.removeprefix(ANYWHERE_PREFIX), row) for row in self.rows if row.reports_name_anywhere]
        level = PathRules(rows, _SYNTAX).level("")
        for path, node in tree.walk() if rows else ():
            found = level.values(path.rpartition("/")[2])
            if found and isinstance(node, File) and not self._is_kept(path) and not self.is_private(path):
                yield from (SecretFinding(path, row) for row in found)

    def find_readmitted(self, tree: Tree) -> list[SecretFinding]:
        """Paths in the tree that a row would leave out, but OMIT_IMAGE_EXCLUDES keeps."""
        return [
            SecretFinding(path, row, max(1, _count_files(node, row)))
            for path, node, rows in self._find_matches(tree)
            for row in select_removing_rows(rows)[:1]
            if self._readmitted.find_rule(path) is not None
        ]

    def _is_kept(self, path: str) -> bool:
        return self._keep.find_rule(path) is not None or self._readmitted.find_rule(path) is not None

    def _contains_kept(self, directory: str) -> bool:
        return self._keep.has_rules_below(directory) or self._readmitted.has_rules_below(directory)

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
                if isinstance(node, Directory) and (below := self._rules.level(path)).may_match_below:
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
