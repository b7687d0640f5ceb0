"""Statistics of a tree, for people: its largest directories, privileged files, and what each rule would leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ltsp.tree.node import Directory, File, Node
from ltsp.tree.tree import Tree

_SETUID, _SETGID = 0o4000, 0o2000


@dataclass(frozen=True, slots=True)
class Survey:
    files: int
    """Regular files; hard links count once."""
    bytes: int
    """Bytes in them."""
    stored: int
    """Those bytes that are not in holes."""
    largest: tuple[tuple[str, int], ...]
    """Directories and the bytes in and below them, the largest first; none that makes up nearly all of another."""
    privileged: tuple[str, ...]
    """Files that run with extra privileges: setuid, setgid, capabilities."""


def survey(tree: Tree, count: int = 10) -> Survey:
    """Visits each node; `count`: how many of the largest are listed."""
    sizes: dict[str, int] = {}
    privileged: list[str] = []
    seen: set[int] = set()
    total = stored = 0
    for path, node in tree.walk():
        if not isinstance(node, File):
            continue
        if _is_privileged(node):
            privileged.append(path)
        if id(node) in seen:
            continue
        seen.add(id(node))
        total += node.content.size
        stored += node.content.stored_size
        parent = path.rpartition("/")[0]
        sizes[parent] = sizes.get(parent, 0) + node.content.size
    return Survey(len(seen), total, stored, _find_largest(_sum_sizes(sizes), count), tuple(privileged))


def _is_privileged(file: File) -> bool:
    mode = file.metadata.mode
    # setgid without group execute once marked mandatory locking, and gives no privileges.
    by_mode = mode & _SETUID or (mode & _SETGID and mode & 0o010)
    return bool(by_mode) or any(name == "security.capability" for name, _ in file.metadata.xattrs)


def _sum_sizes(own: dict[str, int]) -> dict[str, int]:
    """The bytes below each directory, from those of its own files."""
    sums: dict[str, int] = {}
    for path, size in own.items():
        while path:
            sums[path] = sums.get(path, 0) + size
            path = path.rpartition("/")[0]  # noqa: PLW2901 - the way up
    return sums


def _find_largest(sums: dict[str, int], count: int) -> tuple[tuple[str, int], ...]:
    """The largest ones, without those that hold little more than one of their subdirectories (`usr/share/fonts`)."""
    dominated: set[str] = set()
    for path, size in sums.items():
        parent = path.rpartition("/")[0]
        if parent and size >= 0.9 * sums[parent]:
            dominated.add(parent)
    ranked = sorted(
        ((path, size) for path, size in sums.items() if path not in dominated), key=lambda item: (-item[1], item[0])
    )
    return tuple(ranked[:count])


@dataclass(frozen=True, slots=True)
class Removal:
    """What one rule leaves out of a complete tree."""

    rule: str
    paths: tuple[str, ...]
    """The topmost paths."""
    files: int
    bytes: int


@dataclass(slots=True)
class RemovedPaths:
    """Collects what rules leave out, path by path."""

    _paths: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Files and bytes."""

    def add(self, path: str, node: Node) -> None:
        """Add a topmost path and its node."""
        self._paths[path] = _measure_node(node)

    def group_by_rule(self, find_rule: Callable[[str], str | None]) -> list[Removal]:
        """The results by rule, in the order of the first path of each.

        `rule` names the one for a path that is left out; what it knows nothing of is put down to the empty rule.
        """
        found: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            found.setdefault(find_rule(path) or "", []).append(path)
        rows = [
            Removal(name, tuple(paths), *map(sum, zip(*(self._paths[path] for path in paths), strict=True)))
            for name, paths in found.items()
        ]
        return sorted(rows, key=lambda row: row.paths)


def _measure_node(node: Node) -> tuple[int, int]:
    """The files in and below a node, and their bytes."""
    if not isinstance(node, Directory):
        return 1, node.content.size if isinstance(node, File) else 0
    files = [below for _, below in Tree(node).walk() if not isinstance(below, Directory)]
    return len(files), sum(file.content.size for file in files if isinstance(file, File))
