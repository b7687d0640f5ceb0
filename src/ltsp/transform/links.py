"""Where rules lead in a tree whose own symbolic links stand on their way: `home/*` where /home is a link to var/home.

A rule holds for what its path leads to. For each link that stands where a rule goes, the rest of the rule is said again
of the place behind it, as a pattern of its own. No rule cuts away what the system needs because of a link
(`lists/system.places`), nor by a link that anybody could have made. A bind mount is such a link, too: where a system
has /data/mysql over /var/lib/mysql when it runs, a tree of it has the database in data/mysql.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar

from ltsp.errors import SourceError
from ltsp.transform.named_places import Bind
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rule_list import read_built_in
from ltsp.transform.rules import PathRules, PatternEdge, PatternSyntax
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, Symlink
from ltsp.tree.tree import Tree

V = TypeVar("V")

MOST = 100_000
"""Places behind links that rules are followed to; a school has a link in /home for each pupil."""
_MOST_ROUNDS = 40
"""Links one behind the other; bind mounts may lie in each other without an end. As many as in path_resolution(7)"""
_BY_ANYBODY = 0o002
"""Of a directory: all may make links in it, and must not get rid of parts of an image by that. inode(7)"""
_AT_RUN_TIME = frozenset({"dev", "proc", "run", "sys"})
"""What lies here is there when a system runs; that a link leads nowhere before is no news."""


@dataclass(frozen=True, slots=True)
class LinkedRules(Generic[V]):
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
class LinkPolicy(Generic[V]):
    """What links need to know of what rules stand for."""

    ends: Callable[[V], bool] = lambda _value: True
    """Whether the rule follows a link that it names itself."""
    cuts: Callable[[V], bool] = lambda _value: True
    """Whether something is lost where it holds."""
    kind: Callable[[V], object] = lambda _value: None
    """What it does; one rule of a kind is enough for a place."""


@dataclass(frozen=True, slots=True)
class Paths:
    """How paths go through a tree."""

    looked_into: Collection[str] = ()
    """The directories in which `*` at a rule's end follows each entry."""
    binds: tuple[Bind, ...] = ()
    """Places of the tree that are another one when the system runs."""
    gone: Callable[[str], bool] = lambda _path: False
    """Whether a place is left out anyway, so that no rule has to go there."""
    beyond: bool = False
    """The tree is only a part of what there is, and paths go on behind it as they are written."""


def follow_links(
    patterns: Iterable[tuple[str, V]],
    tree: Tree,
    syntax: PatternSyntax,
    policy: LinkPolicy[V],
    paths: Paths,
) -> LinkedRules[V]:
    """Follow the rules with these patterns through the links of a tree.

    A pattern for every directory (`... core`) has no way to be followed. Raises SourceError where there are more links
    than can be followed, since rules would not hold behind the others.
    """
    fresh = [(pattern, value) for pattern, value in patterns if not pattern.startswith("... ")]
    known = {(pattern, policy.kind(value)) for pattern, value in fresh}
    walk = _Walk(tree, syntax, policy, paths, set(paths.looked_into), known)
    for _ in range(_MOST_ROUNDS):
        if not fresh:
            break
        fresh = walk.follow_once(fresh)
    if fresh:
        raise SourceError(
            f"cannot follow more than {_MOST_ROUNDS} links and bind mounts one behind the other: rules lead to "
            f"/{printable(fresh[0][0])} by them",
            "see which bind mounts in etc/fstab of the source lie in each other, and take one of them out",
        )
    return LinkedRules(tuple(walk.found), frozenset(walk.kept), frozenset(walk.looked_into), tuple(walk.notes))


@dataclass(slots=True)
class _Walk(Generic[V]):
    tree: Tree
    syntax: PatternSyntax
    policy: LinkPolicy[V]
    paths: Paths
    looked_into: set[str]
    known: set[tuple[str, object]]
    """Patterns, each with the kind of rule that it is of."""
    found: list[tuple[str, V]] = field(default_factory=list)
    count: int = 0
    kept: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)

    def follow_once(self, patterns: list[tuple[str, V]]) -> list[tuple[str, V]]:
        """Patterns for the places behind the links that these meet, those alone that were not found before."""
        fresh: list[tuple[str, V]] = []
        rules = PathRules(patterns, self.syntax)
        for path, link, edge in _find_links(rules, self.tree):
            if edge.everything and edge.below is None and path.rpartition("/")[0] not in self.looked_into:
                continue
            rests = [pair for pair in edge.rests() if pair[0] or self.policy.ends(pair[1])]
            if not rests:
                continue
            place = self.tree.resolve(path, beyond=self.paths.beyond)
            if place is None:
                self._note_dangling(path, link, rests)
                continue
            if not isinstance(self.tree.get(place), Directory | None):
                rests = [pair for pair in rests if not pair[0]]
            if any(not rest and self.policy.cuts(value) for rest, value in rests) and not edge.everything:
                self._keep(path, place)
            if path in self.looked_into:
                self.looked_into.add(place)
            fresh += self._led(f"/{printable(path)} leads to", place, rests)
        for target, place, edge in self._mounted(rules):
            fresh += self._led(f"/{printable(target)} is a bind mount of", place, self._of_mounted(place, edge))
        self.found += fresh
        return fresh

    def _mounted(self, rules: PathRules[V]) -> Iterator[tuple[str, str, PatternEdge[V]]]:
        """The bind mounts that stand where patterns go: where, what is mounted there, and where the patterns are."""
        for bind in self.paths.binds:
            target = self.tree.resolve(bind.target, beyond=True)
            place = self.tree.resolve(bind.source, beyond=True)
            if target is not None and place is not None and target != place:
                directory, _, name = target.rpartition("/")
                for edge in rules.level(directory).edges(name):
                    yield target, place, edge

    def _of_mounted(self, place: str, edge: PatternEdge[V]) -> list[tuple[str, V]]:
        """What is left of patterns in what is mounted. A directory stays that is mounted where a rule ends."""
        rests = [pair for pair in edge.rests() if pair[0] or self.policy.ends(pair[1])]
        if not isinstance(self.tree.get(place), Directory | None):
            return [pair for pair in rests if not pair[0]]
        return [(rest or "*", value) for rest, value in rests]

    def _led(self, how: str, place: str, rests: list[tuple[str, V]]) -> Iterator[tuple[str, V]]:
        """The patterns for a place that no others were found for. `how`: what leads there, to be shown."""
        for rest, value in rests:
            pattern = f"{literal(place)}/{rest}".strip("/")
            key = (pattern, self.policy.kind(value))
            if key in self.known or not self._may_hold(how, place, rest, value):
                continue
            if self.policy.cuts(value) and rest in {"", "*"} and self.paths.gone(place):
                continue
            if self.count == MOST:
                raise _too_many(how, place)
            self.count += 1
            self.known.add(key)
            yield pattern, value

    def _keep(self, path: str, place: str) -> None:
        if isinstance(self.tree.get(place), Directory):
            self.kept.add(path)

    def _may_hold(self, how: str, place: str, rest: str, value: V) -> bool:
        """Whether the rest of a rule may hold where a link leads: unless it would cut away what the system needs."""
        if not self.policy.cuts(value):
            return True
        lost = _find_lost(place, rest)
        if lost is None or not is_needed(lost):
            return True
        shown = f"{how} /{printable(place)}"
        self.notes[f"{shown}, and the system needs /{printable(lost)}: its contents are in the image"] = None
        return False

    def _note_dangling(self, path: str, link: Symlink, rests: list[tuple[str, V]]) -> None:
        target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link.target)).lstrip("/")
        if any(self.policy.cuts(value) for _, value in rests) and target.partition("/")[0] not in _AT_RUN_TIME:
            self.notes[f"/{printable(path)} is a link to {printable(link.target)}, which is not in the source"] = None


def _find_links(rules: PathRules[V], tree: Tree) -> Iterator[tuple[str, Symlink, PatternEdge[V]]]:
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


def _too_many(how: str, place: str) -> SourceError:
    above = place.rpartition("/")[0]
    usable = above and not is_needed(above)
    return SourceError(
        f"cannot follow more than {MOST} links of the source, so that rules would not hold behind the others: "
        f"{how} /{printable(place)}",
        f"leave out all that they lead to: ADD_IMAGE_EXCLUDES='{printable(literal(above))}/*' in ltsp.conf"
        if usable
        else "see what these links are for, and take them out of the source",
    )


def _find_lost(place: str, rest: str) -> str | None:
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
    exact, trees = _read_system_places()
    return place in exact or any(f"{place}/".startswith(f"{tree}/") for tree in trees)


@cache
def _read_system_places() -> tuple[frozenset[str], tuple[str, ...]]:
    """Those places and what they lie in; and those which are needed with all below."""
    lines = [line.text for line in read_built_in("system.places")]
    exact = {""}
    for line in lines:
        path = line.removesuffix("/**")
        while path:
            exact.add(path)
            path = path.rpartition("/")[0]
    return frozenset(exact), tuple(line.removesuffix("/**") for line in lines if line.endswith("/**"))
