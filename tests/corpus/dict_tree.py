"""Trees from a dictionary of paths: text or bytes for a file, `-> target` for a link, None for a directory."""

from __future__ import annotations

from collections.abc import Mapping

from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata, Node, Symlink
from ltsp.tree.tree import Tree


def make_tree(entries: Mapping[str, str | bytes | Node | None]) -> Tree:
    """The tree; directories on the way are made with mode 0755."""
    root = Directory(Metadata(0o755), {})
    for path, what in entries.items():
        *above, name = path.split("/")
        at = root
        for directory in above:
            at = at.entries.setdefault(directory, Directory(Metadata(0o755), {}))
        at.entries[name] = _node(what)
    return Tree(root)


def _node(what: str | bytes | Node | None) -> Node:
    if what is None:
        return Directory(Metadata(0o755), {})
    if isinstance(what, str) and what.startswith("-> "):
        return Symlink(Metadata(0o777), what[3:])
    if isinstance(what, str):
        what = what.encode("utf-8", "surrogateescape")
    return File(Metadata(0o644), Bytes(what)) if isinstance(what, bytes) else what


def paths(tree: Tree) -> set[str]:
    return {path for path, _ in tree.walk()}


def data(tree: Tree, path: str) -> bytes | None:
    """The bytes of the file at a path, following links; None if it is not a file."""
    node = tree.follow(path)
    if not isinstance(node, File):
        return None
    with node.content.open() as stream:
        return stream.read(node.content.size)
