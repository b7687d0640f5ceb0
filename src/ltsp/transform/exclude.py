"""Applies a list of exclusions to the paths of an image.

It is consulted while a source is scanned: what it excludes is never opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from ltsp.errors import ConfError, UsageError
from ltsp.transform import rules
from ltsp.transform.links import LinkedRules, LinkPolicy, PathContext, follow_links
from ltsp.transform.rules import (
    LIST_SYNTAX,
    MKSQUASHFS_SYNTAX,
    ListLine,
    PathRules,
    PatternSyntax,
    TunedList,
    read_built_in,
    tune_list,
)
from ltsp.tree.name import printable
from ltsp.tree.node import File, Node, Symlink
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree


class Exclusions:
    """A list of exclusions, compiled."""

    def __init__(
        self,
        patterns: Iterable[str],
        syntax: PatternSyntax = LIST_SYNTAX,
        link_patterns: Iterable[tuple[str, str]] = (),
    ) -> None:
        """`link_patterns`: patterns of places behind links, each with the pattern of the list that leads there."""
        self._syntax = syntax
        self._patterns = tuple((pattern, pattern) for pattern in patterns)
        self._link_patterns = tuple(link_patterns)
        self._rules = PathRules((*self._patterns, *self._link_patterns), syntax)

    def follow_links(self, tree: Tree, paths: PathContext) -> tuple[Exclusions, LinkedRules[str]]:
        """The exclusions as they apply to a tree with its links; see `links.follow`."""
        all_patterns = (*self._patterns, *self._link_patterns)
        context = replace(paths, is_left_out=lambda path: bool(self._rules.find_values(path)))
        followed = follow_links(all_patterns, tree, self._syntax, LinkPolicy(), context)
        link_patterns = tuple(dict.fromkeys((*self._link_patterns, *followed.patterns)))
        if link_patterns == self._link_patterns:
            return self, followed
        return Exclusions((pattern for pattern, _ in self._patterns), self._syntax, link_patterns), followed

    def select_path(self, path: str, directory: bool) -> Inclusion:
        """Whether a path is included; a `Selection`."""
        parent, _, name = path.rpartition("/")
        level = self._rules.level(parent)
        if level.is_unaffected:
            return Inclusion.ALL
        if level.covering_values or level.values(name):
            return Inclusion.NOTHING
        return Inclusion.EMPTIED if directory and self._rules.level(path).catch_all_values else Inclusion.ALL

    def find_rule(self, path: str) -> str | None:
        """The line that leaves out a path, or a directory above it."""
        return next(iter(self._rules.find_values(path)), None)

    def has_rules_below(self, directory: str) -> bool:
        """Whether some line matches entries of a directory."""
        return self._rules.level(directory).may_match_below

    def affects(self, directory: str) -> bool:
        """Whether some line matches entries of a directory, or a directory above."""
        return not self._rules.level(directory).is_unaffected


def tune_image_excludes(
    site: Iterator[ListLine] | None, add: Iterator[ListLine], omit: Iterator[ListLine]
) -> TunedList:
    """The exclusions of an image: the site's own list, as of /etc/ltsp/image.excludes, or the built-in one, tuned.

    Raises ConfError, which names every bad line.
    """
    result = tune_list(
        chain(read_built_in("image.excludes"), rules.read_exclusions()) if site is None else site, add, omit
    )
    faults = [f"{line}: {fault}" for line in result.lines if (fault := find_fault(line.text)) is not None]
    if faults:
        raise ConfError("; ".join(faults), "patterns are relative to the root of the image, as in home/*")
    return result


def find_fault(pattern: str) -> str | None:
    components = pattern.removeprefix("... ").split("/")
    if pattern.startswith(("/", "./", "../")):
        return f"{printable(pattern)} must not begin with {pattern.partition('/')[0]}/"
    if any(component in (".", "..") for component in components):
        return f"{printable(pattern)} must not have . or .. between its slashes, which match nothing"
    if not any(components):
        return f"{printable(pattern)} matches nothing"
    if "\0" in pattern:
        return f"{printable(pattern)} must not contain a NUL byte"
    if any(_ends_escaping(component) for component in components):
        return f"{printable(pattern)} must not have a backslash before a slash or at its end"
    return None


def _ends_escaping(component: str) -> bool:
    return (len(component) - len(component.rstrip("\\"))) % 2 == 1


def parse_exclude_file(text: str) -> list[str]:
    """The patterns of a file given with `mksquashfs -ef`, by its own rules: trailing white space counts."""
    stripped = (line.lstrip(" \t\r\f\v") for line in text.split("\n"))
    return [pattern for line in stripped if not line.startswith("#") and (pattern := line.removeprefix("\\"))]


def make_wildcard_selection(patterns: Iterable[str]) -> Selection:
    """The exclusions of `mksquashfs -wildcards` with these patterns.

    Raises UsageError where mksquashfs refuses one.
    """
    return Exclusions(_check_relative(patterns), MKSQUASHFS_SYNTAX).select_path


def _check_relative(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        if pattern.startswith(("/", "./", "../")):
            raise UsageError(
                f"cannot exclude {printable(pattern)} with -wildcards",
                "write it relative to the root of the image, without the leading /, ./ or ../",
            )
        yield pattern


def make_path_selection(tree: Tree, paths: Iterable[str]) -> Selection:
    """The exclusions of mksquashfs with these paths if `-wildcards` is not given.

    It goes by inode: links on the way are followed, and other names of the same file are left out too. Paths are
    relative to the root; one that leads nowhere is passed over, as there.
    """
    excluded = {id(node) for path in paths if (node := _find_node(tree, path)) is not None}
    if not excluded:
        return lambda _path, _directory: Inclusion.ALL
    names = {path for path, node in tree.walk() if id(node) in excluded}
    return lambda path, _directory: Inclusion.NOTHING if path in names else Inclusion.ALL


def _find_node(tree: Tree, path: str) -> Node | None:
    """The node that lstat(2) of a path finds: a final link is not followed, unless a slash comes after it."""
    parent, _, name = path.rstrip("/").rpartition("/")
    directory = tree.resolve(parent)
    if directory is None or name in ("", ".", ".."):
        return None
    node = tree.get(f"{directory}/{name}")
    if path.endswith("/"):
        followed = tree.follow(path)
        return None if isinstance(followed, File | Symlink) else followed
    return node
