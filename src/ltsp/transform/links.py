"""Where rules lead in a tree whose own symbolic links stand on their way: `home/*` where /home is a link to var/home.

A rule holds for what its path leads to. For each link that stands where a rule goes, the rest of the rule is said again
of the place behind it, as a pattern of its own. No rule cuts away what the system needs because of a link
(`lists/system.places`), nor by a link that anybody could have made.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from ltsp.transform.lines import built_in
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rules import Edge, Rules, Syntax
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, Symlink
from ltsp.tree.tree import Tree

V = TypeVar("V")

MOST = 20_000
"""Patterns that are followed behind links; a school has a link in /home for each pupil. More are not followed, and that
is said."""
_BY_ANYBODY = 0o002
"""Of a directory: all may make links in it, and must not get rid of parts of an image by that. inode(7)"""
_AT_RUN_TIME = frozenset({"dev", "proc", "run", "sys"})
"""What lies here is there when a system runs; that a link leads nowhere before is no news."""


@dataclass(frozen=True, slots=True)
class Led(Generic[V]):
    """What links do to rules."""

    patterns: tuple[tuple[str, V], ...] = ()
    """Of the places behind links, and what the rules stand for that lead there."""
    kept: frozenset[str] = frozenset()
    """Links that a rule names and that lead to a directory."""
    looked_into: frozenset[str] = frozenset()
    """Directories behind links whose entries may be links to follow, too."""
    notes: tuple[str, ...] = ()
    """A line for each link that leads nowhere, or where no rule follows; safe to print."""


@dataclass(frozen=True, slots=True)
class Meaning(Generic[V]):
    """What links need to know of what rules stand for."""

    ends: Callable[[V], bool] = lambda _value: True
    """Whether the rule follows a link that it names itself."""
    cuts: Callable[[V], bool] = lambda _value: True
    """Whether something is lost where it holds."""
    kind: Callable[[V], object] = lambda _value: None
    """What it does; one rule of a kind is enough for a place."""


def follow(
    patterns: Iterable[tuple[str, V]],
    tree: Tree,
    syntax: Syntax,
    meaning: Meaning[V],
    looked_into: Collection[str] = (),
    *,
    beyond: bool = False,
) -> Led[V]:
    """Follow the rules with these patterns through the links of a tree.

    `looked_into`: the directories in which `*` at a rule's end follows each entry. `beyond`: the tree is only a part of
    what there is, and paths go on behind it as they are written.

    A pattern for every directory (`... core`) has no way to be followed.
    """
    fresh = [(pattern, value) for pattern, value in patterns if not pattern.startswith("... ")]
    known = {(pattern, meaning.kind(value)) for pattern, value in fresh}
    walk = _Walk(tree, syntax, meaning, set(looked_into), known, beyond=beyond)
    while fresh:
        fresh = walk.behind(fresh)
    return Led(tuple(walk.found), frozenset(walk.kept), frozenset(walk.looked_into), tuple(walk.notes))


@dataclass(slots=True)
class _Walk(Generic[V]):
    tree: Tree
    syntax: Syntax
    meaning: Meaning[V]
    looked_into: set[str]
    known: set[tuple[str, object]]
    """Patterns, each with the kind of rule that it is of."""
    beyond: bool
    found: list[tuple[str, V]] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)

    def behind(self, patterns: list[tuple[str, V]]) -> list[tuple[str, V]]:
        """Patterns for the places behind the links that these meet, those alone that were not found before."""
        fresh: list[tuple[str, V]] = []
        for path, link, edge in _met(Rules(patterns, self.syntax), self.tree):
            if edge.everything and edge.below is None and path.rpartition("/")[0] not in self.looked_into:
                continue
            rests = [pair for pair in edge.rests() if pair[0] or self.meaning.ends(pair[1])]
            if not rests:
                continue
            place = self.tree.resolve(path, beyond=self.beyond)
            if place is None:
                self._note_nowhere(path, link, rests)
                continue
            if not isinstance(self.tree.get(place), Directory | None):
                rests = [pair for pair in rests if not pair[0]]
            if any(not rest and self.meaning.cuts(value) for rest, value in rests) and not edge.everything:
                self._keep(path, place)
            if path in self.looked_into:
                self.looked_into.add(place)
            for rest, value in rests:
                pattern = f"{literal(place)}/{rest}".strip("/")
                key = (pattern, self.meaning.kind(value))
                if key not in self.known and self._may_hold(path, place, rest, value):
                    self.known.add(key)
                    fresh.append((pattern, value))
        if len(fresh) > MOST - len(self.found):
            self.notes[f"rules are followed through no more than {MOST} links; what is behind others stays"] = None
            del fresh[MOST - len(self.found) :]
        self.found += fresh
        return fresh

    def _keep(self, path: str, place: str) -> None:
        if isinstance(self.tree.get(place), Directory):
            self.kept.add(path)

    def _may_hold(self, path: str, place: str, rest: str, value: V) -> bool:
        """Whether the rest of a rule may hold where a link leads: unless it would cut away what the system needs."""
        if not self.meaning.cuts(value):
            return True
        lost = _cut(place, rest)
        if lost is None or not is_needed(lost):
            return True
        shown = f"/{printable(path)} leads to /{printable(place)}"
        self.notes[f"{shown}, and the system needs /{printable(lost)}: its contents are in the image"] = None
        return False

    def _note_nowhere(self, path: str, link: Symlink, rests: list[tuple[str, V]]) -> None:
        target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link.target)).lstrip("/")
        if any(self.meaning.cuts(value) for _, value in rests) and target.partition("/")[0] not in _AT_RUN_TIME:
            self.notes[f"/{printable(path)} is a link to {printable(link.target)}, which is not in the source"] = None


def _met(rules: Rules[V], tree: Tree) -> Iterator[tuple[str, Symlink, Edge[V]]]:
    """The links that stand where patterns go, each with where the patterns are there."""
    pending = [("", tree.root)]
    while pending:
        above, directory = pending.pop()
        level = rules.level(above)
        for name, node in directory.entries.items():
            path = f"{above}/{name}" if above else name
            if isinstance(node, Directory):
                if rules.level(path).leads_on:
                    pending.append((path, node))
            elif isinstance(node, Symlink) and not directory.metadata.mode & _BY_ANYBODY:
                for edge in level.edges(name):
                    yield path, node, edge


def _cut(place: str, rest: str) -> str | None:
    """What is lost where the rest of a rule holds at a place; None where that is only what some names match."""
    names = [place] if place else []
    for component in filter(None, rest.split("/")):
        if component == "**":
            return None
        if not component.strip("*?"):
            break
        if not is_plain(component):
            return None
        names.append(component)
    return "/".join(names)


def is_needed(place: str) -> bool:
    """Whether the system needs a place, or something below it."""
    exact, trees = _system_places()
    return place in exact or any(f"{place}/".startswith(f"{tree}/") for tree in trees)


@cache
def _system_places() -> tuple[frozenset[str], tuple[str, ...]]:
    """Those places and what they lie in; and those which are needed with all below."""
    lines = [line.text for line in built_in("system.places")]
    exact = {""}
    for line in lines:
        path = line.removesuffix("/**")
        while path:
            exact.add(path)
            path = path.rpartition("/")[0]
    return frozenset(exact), tuple(line.removesuffix("/**") for line in lines if line.endswith("/**"))
