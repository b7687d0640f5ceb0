"""Follows rules through the symbolic links of a tree: `home/*` if /home is a link to var/home.

A rule applies to the place its path leads to. For each link on the path of a rule, the rest of the rule is applied to
the target of the link, as a separate pattern. A link never makes a rule remove what the system needs
(`lists/system.places`), and a link that any user could have created is ignored. A bind mount counts as a link: if a
running system has /data/mysql mounted on /var/lib/mysql, its tree has the database in data/mysql.
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
from ltsp.transform.rules import PathRules, PatternEdge, PatternSyntax, read_built_in
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, Symlink
from ltsp.tree.tree import Tree

V = TypeVar("V")

MOST = 100_000
"""Limit on places behind links; a school may have a link in /home for each pupil."""
_MOST_ROUNDS = 40
"""Limit on links in a chain, since bind mounts may be nested endlessly. The same as in path_resolution(7)"""
_BY_ANYBODY = 0o002
"""Mode of a directory in which any user can create links; these must not remove parts of an image. inode(7)"""
_AT_RUN_TIME = frozenset({"dev", "proc", "run", "sys"})
"""Directories filled at run time; a dangling link into them is not reported."""


@dataclass(frozen=True, slots=True)
class LinkedRules(Generic[V]):
    """The effect of links on rules."""

    patterns: tuple[tuple[str, V], ...] = ()
    """Patterns of places behind links, with the values of the rules that lead there."""
    kept: frozenset[str] = frozenset()
    """Links that a rule names and that lead to a directory."""
    looked_into: frozenset[str] = frozenset()
    """Directories behind links whose entries may also be links to follow."""
    notes: tuple[str, ...] = ()
    """A line for each dangling link, and each that no rule follows; safe to print."""


@dataclass(frozen=True, slots=True)
class LinkPolicy(Generic[V]):
    """How rules with a value behave at links."""

    ends: Callable[[V], bool] = lambda _value: True
    """Whether the rule follows a link that its pattern ends at."""
    cuts: Callable[[V], bool] = lambda _value: True
    """Whether the rule removes data."""
    kind: Callable[[V], object] = lambda _value: None
    """The kind of the rule; one rule of a kind is enough for a place."""


@dataclass(frozen=True, slots=True)
class Paths:
    """How paths are resolved in a tree."""

    looked_into: Collection[str] = ()
    """The directories in which `*` at a rule's end follows each entry."""
    binds: tuple[Bind, ...] = ()
    """Bind mounts of the running system."""
    gone: Callable[[str], bool] = lambda _path: False
    """Whether a place is left out anyway, so that no rule is needed."""
    beyond: bool = False
    """The tree is incomplete; paths that leave it are taken as written."""


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
            f"too many links and bind mounts in a chain (limit {_MOST_ROUNDS}), so exclusions cannot be guaranteed for "
            f"what they lead to: /{printable(fresh[0][0])}",
            "check which bind mounts in the source's etc/fstab are nested in each other, and remove one",
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
        """New patterns for the places behind the links that these rules meet."""
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
        """The bind mounts on the path of patterns: mount point, mounted place, and position in the patterns."""
        for bind in self.paths.binds:
            target = self.tree.resolve(bind.target, beyond=True)
            place = self.tree.resolve(bind.source, beyond=True)
            if target is not None and place is not None and target != place:
                directory, _, name = target.rpartition("/")
                for edge in rules.level(directory).edges(name):
                    yield target, place, edge

    def _of_mounted(self, place: str, edge: PatternEdge[V]) -> list[tuple[str, V]]:
        """The rest of the patterns in what is mounted. A directory mounted at the end of a rule stays."""
        rests = [pair for pair in edge.rests() if pair[0] or self.policy.ends(pair[1])]
        if not isinstance(self.tree.get(place), Directory | None):
            return [pair for pair in rests if not pair[0]]
        return [(rest or "*", value) for rest, value in rests]

    def _led(self, how: str, place: str, rests: list[tuple[str, V]]) -> Iterator[tuple[str, V]]:
        """The new patterns for a place. `how`: what leads there, for messages."""
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
        """Whether the rest of a rule may apply behind a link: not if it would remove what the system needs."""
        if not self.policy.cuts(value):
            return True
        lost = _find_lost(place, rest)
        if lost is None or not is_needed(lost):
            return True
        shown = f"{how} /{printable(place)}"
        self.notes[f"{shown}, but the system needs /{printable(lost)}: its contents stay in the image"] = None
        return False

    def _note_dangling(self, path: str, link: Symlink, rests: list[tuple[str, V]]) -> None:
        target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link.target)).lstrip("/")
        if any(self.policy.cuts(value) for _, value in rests) and target.partition("/")[0] not in _AT_RUN_TIME:
            self.notes[f"/{printable(path)} is a link to {printable(link.target)}, which is not in the source"] = None


def _find_links(rules: PathRules[V], tree: Tree) -> Iterator[tuple[str, Symlink, PatternEdge[V]]]:
    """The links on the path of patterns, each with the position in the patterns."""
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
        f"too many symbolic links (limit {MOST}), so exclusions cannot be guaranteed for what they lead to: "
        f"{how} /{printable(place)}",
        f"exclude everything that they lead to: ADD_IMAGE_EXCLUDES='{printable(literal(above))}/*' in ltsp.conf"
        if usable
        else "check what these links are for, and remove them from the source",
    )


def _find_lost(place: str, rest: str) -> str | None:
    """The path that the rest of a rule removes at a place; None if it only removes matching names."""
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
    """The needed places and their parents, and those needed with everything below."""
    lines = [line.text for line in read_built_in("system.places")]
    exact = {""}
    for line in lines:
        path = line.removesuffix("/**")
        while path:
            exact.add(path)
            path = path.rpartition("/")[0]
    return frozenset(exact), tuple(line.removesuffix("/**") for line in lines if line.endswith("/**"))
