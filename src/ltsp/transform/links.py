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
from ltsp.transform.named_places import BindMount
from ltsp.transform.pattern import is_plain, literal
from ltsp.transform.rules import PathRules, PatternEdge, PatternSyntax, read_built_in
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, Symlink
from ltsp.tree.tree import Tree

V = TypeVar("V")

MAX_LINKS = 100_000
"""Limit on places behind links; a school may have a link in /home for each pupil."""
_MAX_CHAIN = 40
"""Limit on links in a chain, since bind mounts may be nested endlessly. The same as in path_resolution(7)"""
_WORLD_WRITABLE = 0o002
"""Mode of a directory in which any user can create links; these must not remove parts of an image. inode(7)"""
_RUNTIME_DIRECTORIES = frozenset({"dev", "proc", "run", "sys"})
"""Directories filled at run time; a dangling link into them is not reported."""


@dataclass(frozen=True, slots=True)
class LinkedRules(Generic[V]):
    """The effect of links on rules."""

    patterns: tuple[tuple[str, V], ...] = ()
    """Patterns of places behind links, with the values of the rules that lead there."""
    named_links: frozenset[str] = frozenset()
    """Links that a rule names and that lead to a directory."""
    link_directories: frozenset[str] = frozenset()
    """Directories behind links whose entries may also be links to follow."""
    notes: tuple[str, ...] = ()
    """A line for each dangling link, and each that no rule follows; safe to print."""


@dataclass(frozen=True, slots=True)
class LinkPolicy(Generic[V]):
    """How rules with a value behave at links."""

    follows_final_link: Callable[[V], bool] = lambda _value: True
    """Whether the rule follows a link that its pattern ends at."""
    removes_data: Callable[[V], bool] = lambda _value: True
    """Whether the rule removes data."""
    kind: Callable[[V], object] = lambda _value: None
    """The kind of the rule; one rule of a kind is enough for a place."""


@dataclass(frozen=True, slots=True)
class PathContext:
    """How paths are resolved in a tree."""

    link_directories: Collection[str] = ()
    """The directories in which `*` at a rule's end follows each entry."""
    binds: tuple[BindMount, ...] = ()
    """Bind mounts of the running system."""
    is_left_out: Callable[[str], bool] = lambda _path: False
    """Whether a place is left out anyway, so that no rule is needed."""
    is_outline: bool = False
    """The tree is incomplete; paths that leave it are taken as written."""


def follow_links(
    patterns: Iterable[tuple[str, V]],
    tree: Tree,
    syntax: PatternSyntax,
    policy: LinkPolicy[V],
    paths: PathContext,
) -> LinkedRules[V]:
    """Follow the rules with these patterns through the links of a tree.

    A pattern for every directory (`... core`) has no way to be followed. Raises SourceError where there are more links
    than can be followed, since rules would not hold behind the others.
    """
    fresh = [(pattern, value) for pattern, value in patterns if not pattern.startswith("... ")]
    known = {(pattern, policy.kind(value)) for pattern, value in fresh}
    walk = _LinkWalk(tree, syntax, policy, paths, set(paths.link_directories), known)
    for _ in range(_MAX_CHAIN):
        if not fresh:
            break
        fresh = walk.follow_once(fresh)
    if fresh:
        raise SourceError(
            f"too many links and bind mounts in a chain (limit {_MAX_CHAIN}), so exclusions cannot be guaranteed for "
            f"what they lead to: /{printable(fresh[0][0])}",
            "check which bind mounts in the source's etc/fstab are nested in each other, and remove one",
        )
    return LinkedRules(
        tuple(walk.found), frozenset(walk.named_links), frozenset(walk.link_directories), tuple(walk.notes)
    )


@dataclass(slots=True)
class _LinkWalk(Generic[V]):
    tree: Tree
    syntax: PatternSyntax
    policy: LinkPolicy[V]
    paths: PathContext
    link_directories: set[str]
    known: set[tuple[str, object]]
    """Patterns, each with the kind of rule that it is of."""
    found: list[tuple[str, V]] = field(default_factory=list)
    count: int = 0
    named_links: set[str] = field(default_factory=set)
    notes: dict[str, None] = field(default_factory=dict)

    def follow_once(self, patterns: list[tuple[str, V]]) -> list[tuple[str, V]]:
        """New patterns for the places behind the links that these rules meet."""
        fresh: list[tuple[str, V]] = []
        rules = PathRules(patterns, self.syntax)
        for path, link, edge in _find_links(rules, self.tree):
            if edge.is_catch_all and edge.next_node is None and path.rpartition("/")[0] not in self.link_directories:
                continue
            rests = [pair for pair in edge.list_rests() if pair[0] or self.policy.follows_final_link(pair[1])]
            if not rests:
                continue
            resolved = self.tree.resolve(path, is_outline=self.paths.is_outline)
            if resolved is None:
                self._note_dangling(path, link, rests)
                continue
            if not isinstance(self.tree.get(resolved), Directory | None):
                rests = [pair for pair in rests if not pair[0]]
            if any(not rest and self.policy.removes_data(value) for rest, value in rests) and not edge.is_catch_all:
                self._keep_link(path, resolved)
            if path in self.link_directories:
                self.link_directories.add(resolved)
            fresh += self._make_patterns(f"/{printable(path)} leads to", resolved, rests)
        for target, resolved, edge in self._find_mounted(rules):
            fresh += self._make_patterns(
                f"/{printable(target)} is a bind mount of", resolved, self._list_mounted_rests(resolved, edge)
            )
        self.found += fresh
        return fresh

    def _find_mounted(self, rules: PathRules[V]) -> Iterator[tuple[str, str, PatternEdge[V]]]:
        """The bind mounts on the path of patterns: mount point, mounted place, and position in the patterns."""
        for bind in self.paths.binds:
            target = self.tree.resolve(bind.target, is_outline=True)
            resolved = self.tree.resolve(bind.source, is_outline=True)
            if target is not None and resolved is not None and target != resolved:
                directory, _, name = target.rpartition("/")
                for edge in rules.level(directory).edges(name):
                    yield target, resolved, edge

    def _list_mounted_rests(self, resolved: str, edge: PatternEdge[V]) -> list[tuple[str, V]]:
        """The rest of the patterns in what is mounted. A directory mounted at the end of a rule stays."""
        rests = [pair for pair in edge.list_rests() if pair[0] or self.policy.follows_final_link(pair[1])]
        if not isinstance(self.tree.get(resolved), Directory | None):
            return [pair for pair in rests if not pair[0]]
        return [(rest or "*", value) for rest, value in rests]

    def _make_patterns(self, how: str, resolved: str, rests: list[tuple[str, V]]) -> Iterator[tuple[str, V]]:
        """The new patterns for a place. `how`: what leads there, for messages."""
        for rest, value in rests:
            pattern = f"{literal(resolved)}/{rest}".strip("/")
            key = (pattern, self.policy.kind(value))
            if key in self.known or not self._may_apply(how, resolved, rest, value):
                continue
            if self.policy.removes_data(value) and rest in {"", "*"} and self.paths.is_left_out(resolved):
                continue
            if self.count == MAX_LINKS:
                raise _too_many_links_error(how, resolved)
            self.count += 1
            self.known.add(key)
            yield pattern, value

    def _keep_link(self, path: str, resolved: str) -> None:
        if isinstance(self.tree.get(resolved), Directory):
            self.named_links.add(path)

    def _may_apply(self, how: str, resolved: str, rest: str, value: V) -> bool:
        """Whether the rest of a rule may apply behind a link: not if it would remove what the system needs."""
        if not self.policy.removes_data(value):
            return True
        removed = _find_removed_path(resolved, rest)
        if removed is None or not is_needed_by_system(removed):
            return True
        shown = f"{how} /{printable(resolved)}"
        self.notes[f"{shown}, but the system needs /{printable(removed)}: its contents stay in the image"] = None
        return False

    def _note_dangling(self, path: str, link: Symlink, rests: list[tuple[str, V]]) -> None:
        target = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link.target)).lstrip("/")
        if (
            any(self.policy.removes_data(value) for _, value in rests)
            and target.partition("/")[0] not in _RUNTIME_DIRECTORIES
        ):
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
                if rules.level(path).may_match_below:
                    pending.append((path, node))
            elif isinstance(node, Symlink) and not directory.metadata.mode & _WORLD_WRITABLE:
                for edge in level.edges(name):
                    yield path, node, edge


def _too_many_links_error(how: str, resolved: str) -> SourceError:
    above = resolved.rpartition("/")[0]
    usable = above and not is_needed_by_system(above)
    return SourceError(
        f"too many symbolic links (limit {MAX_LINKS}), so exclusions cannot be guaranteed for what they lead to: "
        f"{how} /{printable(resolved)}",
        f"exclude everything that they lead to: ADD_IMAGE_EXCLUDES='{printable(literal(above))}/*' in ltsp.conf"
        if usable
        else "check what these links are for, and remove them from the source",
    )


def _find_removed_path(resolved: str, rest: str) -> str | None:
    """The path that the rest of a rule removes at a place; None if it only removes matching names."""
    names = [resolved] if resolved else []
    for component in filter(None, rest.split("/")):
        if component == "**":
            return None
        if not component.strip("*?"):
            break
        if not is_plain(component):
            return None
        names.append(component)
    return "/".join(names)


def is_needed_by_system(resolved: str) -> bool:
    """Whether the system needs a place, or something below it."""
    exact, trees = _read_system_places()
    return resolved in exact or any(f"{resolved}/".startswith(f"{tree}/") for tree in trees)


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
