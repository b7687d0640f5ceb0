"""The tree of files, which sources create, transforms change and writers write."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ltsp.tree.name import sort_names
from ltsp.tree.node import Directory, File, Node, Symlink
from ltsp.tree.selection import Inclusion, ObservedSelection, Selection

_MAX_LINKS = 40
"""Symbolic links that Linux follows in one path. path_resolution(7)"""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Paths are relative to the root and have no leading slash; the root is the empty path."""

    root: Directory

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every node except the root, depth first, the names of a directory in the order of their bytes."""
        pending = [_sorted_entries("", self.root)]
        while pending:
            for path, node in pending[-1]:
                yield path, node
                if isinstance(node, Directory):
                    pending.append(_sorted_entries(path + "/", node))
                    break
            else:
                pending.pop()

    def get(self, path: str) -> Node | None:
        """The node at a path; symbolic links are not followed, not even in its directories."""
        node: Node = self.root
        for name in filter(None, path.split("/")):
            if not isinstance(node, Directory) or name not in node.entries:
                return None
            node = node.entries[name]
        return node

    def resolve(self, path: str, *, is_outline: bool = False) -> str | None:
        """The path after following all symbolic links inside the tree; None if it does not exist.

        `..` of the root is the root, and an absolute target begins at the root of the tree, as in a chroot. With
        `is_outline`, everything after a missing name is kept as written: for a tree that is only a part of a system.
        """
        pending = path.split("/")[::-1]
        names: list[str] = []
        nodes: list[Node] = [self.root]
        links = 0
        while pending:
            name = pending.pop()
            directory = nodes[-1]
            if not isinstance(directory, Directory):
                return None
            if name in ("", "."):
                continue
            if name == "..":
                if names:
                    names.pop()
                    nodes.pop()
                continue
            node = directory.entries.get(name)
            if node is None:
                missing = [name, *(each for each in reversed(pending) if each not in ("", "."))]
                return "/".join([*names, *missing]) if is_outline and ".." not in missing else None
            if isinstance(node, Symlink):
                links += 1
                if links > _MAX_LINKS:
                    return None
                pending.extend(node.target.split("/")[::-1])
                if node.target.startswith("/"):
                    del names[:], nodes[1:]
                continue
            names.append(name)
            nodes.append(node)
        return "/".join(names)

    def follow(self, path: str) -> Node | None:
        """The node of a path after following all symbolic links inside the tree."""
        resolved = self.resolve(path)
        return None if resolved is None else self.get(resolved)

    def edit(self, changes: Mapping[str, Node | None]) -> Tree:
        """The tree with nodes replaced or added at paths, or removed if the node is None.

        A rewritten file changes under each of its names; a removal removes only the one name. A change whose
        directory is not in the tree is ignored.
        """
        rewritten = {
            id(old): new for path, new in changes.items() if new is not None and isinstance(old := self.get(path), File)
        }
        all_changes = dict(changes)
        for path, node in self.walk() if rewritten else ():
            if id(node) in rewritten:
                all_changes.setdefault(path, rewritten[id(node)])
        branch: dict[str, dict[str, Node | None]] = {}
        for path, new in all_changes.items():
            parent, _, name = path.rpartition("/")
            branch.setdefault(parent, {})[name] = new
        touched = {ancestor for path in branch for ancestor in _ancestors(path)}
        return Tree(_apply_changes(self.root, "", branch, touched))

    def map(self, function: Callable[[Node], Node]) -> Tree:
        """The tree with each node, including the root, replaced by the result of the function, from the root down.

        A node with several names is mapped once, so that hard links stay. For a directory the function changes only
        the metadata; its entries are mapped after it.
        """
        mapped: dict[int, Node] = {}

        def once(_path: str, node: Node) -> Node:
            new = mapped.get(id(node))
            if new is None:
                new = mapped[id(node)] = function(node)
            return new

        root = function(self.root)
        assert isinstance(root, Directory)
        return Tree(_rebuild(root, once))

    def select(self, selection: Selection, is_affected: Callable[[str], bool] = lambda _directory: True) -> Tree:
        """The tree that a scan with this selection would have returned.

        `is_affected`: whether the selection returns anything but ALL below a directory; if not, its node is reused.
        """
        on_left_out = selection.on_left_out if isinstance(selection, ObservedSelection) else _ignore_node

        def select_node(path: str, node: Node) -> Node | None:
            match selection(path, isinstance(node, Directory)):
                case Inclusion.NOTHING:
                    on_left_out(path, node)
                    return None
                case Inclusion.EMPTIED:
                    for name, child in node.entries.items() if isinstance(node, Directory) else ():
                        on_left_out(f"{path}/{name}", child)
                    return replace(node, entries={}) if isinstance(node, Directory) else node
                case Inclusion.ALL:
                    return node

        return Tree(_rebuild(self.root, select_node, is_affected))


def _ignore_node(_path: str, _node: Node) -> None:
    pass


def _sorted_entries(prefix: str, directory: Directory) -> Iterator[tuple[str, Node]]:
    entries = directory.entries
    for name in sort_names(list(entries)):
        yield prefix + name, entries[name]


def _ancestors(path: str) -> Iterator[str]:
    """The path and its parents, without the root: `a/b` gives `a` and `a/b`."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
    yield path


def _apply_changes(
    directory: Directory, prefix: str, branch: Mapping[str, Mapping[str, Node | None]], touched: set[str]
) -> Directory:
    """The directory with the changes of a branch; recursion is as deep as the deepest change, not the tree."""
    entries = dict(directory.entries)
    for name, new in branch.get(prefix.removesuffix("/"), {}).items():
        if new is None:
            entries.pop(name, None)
        else:
            entries[name] = new
    for name, node in entries.items():
        if isinstance(node, Directory) and prefix + name in touched:
            entries[name] = _apply_changes(node, f"{prefix}{name}/", branch, touched)
    return replace(directory, entries=entries)


def _rebuild(
    root: Directory,
    function: Callable[[str, Node], Node | None],
    is_affected: Callable[[str], bool] = lambda _directory: True,
) -> Directory:
    """The directory with the nodes below it replaced, or removed if the function returns None.

    Without recursion: a source may nest deeper than the interpreter's stack.
    """
    open_directories: list[tuple[str, str, Directory, Iterator[tuple[str, Node]], dict[str, Node]]] = [
        ("", "", root, iter(list(root.entries.items())), {})
    ]
    while True:
        prefix, name, directory, pending, entries = open_directories[-1]
        for child, node in pending:
            new = function(prefix + child, node)
            if isinstance(new, Directory) and is_affected(prefix + child):
                open_directories.append((f"{prefix}{child}/", child, new, iter(list(new.entries.items())), {}))
                break
            if new is not None:
                entries[child] = new
        else:
            open_directories.pop()
            built = replace(directory, entries=entries)
            if not open_directories:
                return built
            open_directories[-1][4][name] = built


@contextmanager
def without_gc() -> Iterator[None]:
    """Disable garbage collection: no node is garbage, and the repeated scans take 40 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
