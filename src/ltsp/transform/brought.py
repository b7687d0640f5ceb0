"""Finds the files that package tools installed in a tree. Those are public, so they contain no secrets.

The directories of some tools are identified by a file in them (`lists/package.marks`); other files are found in the
file lists of dpkg, pacman and rpm. No program of the tree is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain

from ltsp.errors import FormatError
from ltsp.transform.packages import rpm_files
from ltsp.transform.rule_list import read_built_in
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

_LISTS = ("var/lib/dpkg/info/*.list", "var/lib/pacman/local/*/files")
"""File lists of packages, one path a line. dpkg-query(1), --listfiles; pacman's lib/libalpm/be_local.c"""
_MOST = 64 << 20
"""Limit on the size of a list in bytes."""


def added(tree: Tree, paths: Iterable[str]) -> Mapping[str, list[str]]:
    """For each of these paths, the files at or below it that no package tool installed, sorted by path."""
    found = {path: [*_unmarked(tree, path)] for path in paths}
    wanted = {file for files in found.values() for file in files}
    listed = _listed(tree, wanted) if wanted else frozenset()
    return {path: [file for file in files if file not in listed] for path, files in found.items()}


def _unmarked(tree: Tree, path: str) -> Iterator[str]:
    """The files at or below a path, without those in the directories of package tools."""
    at = ""
    for name in path.split("/"):
        above = tree.get(at)
        if not isinstance(above, Directory) or _is_kept(name, _kept_in(above)):
            return
        at = f"{at}/{name}".lstrip("/")
    pending = [(path, tree.get(path))]
    while pending:
        at, node = pending.pop()
        if isinstance(node, File):
            yield at
        elif isinstance(node, Directory):
            kept = _kept_in(node)
            names = [name for name in sort_names(list(node.entries)) if not _is_kept(name, kept)]
            pending += [(f"{at}/{name}", node.entries[name]) for name in reversed(names)]


def _is_kept(name: str, kept: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in kept)


def _kept_in(directory: Directory) -> list[str]:
    """Patterns of the entries that belong to a package tool."""
    return [each for mark, names in _marks() if any(_matching("", directory, mark)) for each in names]


def _matching(prefix: str, directory: Directory, components: tuple[str, ...]) -> Iterator[tuple[str, File]]:
    """The files that a pattern matches."""
    first, *rest = components
    names = sort_names(list(directory.entries)) if "*" in first else [first]
    for name in names:
        node = directory.entries.get(name)
        if node is None or not fnmatchcase(name, first):
            continue
        if isinstance(node, Directory) and rest:
            yield from _matching(f"{prefix}{name}/", node, tuple(rest))
        elif isinstance(node, File) and not rest:
            yield prefix + name, node


@cache
def _marks() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The components of each mark, and the tool's entries next to it."""
    rows = (line.text.split() for line in read_built_in("package.marks"))
    return tuple((tuple(mark.split("/")), tuple(names)) for mark, *names in rows)


def _listed(tree: Tree, wanted: set[str]) -> frozenset[str]:
    """The paths that packages list, with links resolved."""
    names = {path.rpartition("/")[2] for path in wanted}
    listed = (line for line in chain(_lines(tree), rpm_files(tree)) if line.rpartition("/")[2] in names)
    return frozenset(filter(None, map(tree.resolve, listed))) & wanted


def _lines(tree: Tree) -> Iterator[str]:
    for pattern in _LISTS:
        for path, file in _matching("", tree.root, tuple(pattern.split("/"))):
            yield from decode(_read(path, file)).split("\n")


def _read(path: str, file: File) -> bytes:
    try:
        return read_small_file(file, path, _MOST, Faults(skip_unreadable=True))
    except FormatError:
        return b""  # an unreadable list is ignored, which only causes more warnings
