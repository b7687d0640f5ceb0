"""Trees as text: one line a node, `KIND PATH MODE UID GID MTIME MORE`, so that a golden tree can be read and changed.

    d etc 755 0 0 1000
    f etc/a 644 0 0 1000 text:5000:1
    l etc/b 777 0 0 1000 a
    c dev/null 666 0 0 1000 1:3
    h etc/c etc/a

Kinds are those of find(1), and `h` for a further name of an earlier node. Content is `text:SIZE:SEED`,
`noise:SIZE:SEED` or `hole:SIZE`; attributes follow as `NAME=VALUE`.
"""

from __future__ import annotations

from corpus.tree_strategies import Made, Sparse, noise, text
from ltsp.tree.content import Content
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.tree import Tree


def parse(lines: str) -> Tree:
    entries: dict[str, dict[str, Node]] = {"": {}}
    nodes: dict[str, Node] = {}
    root = Directory(Metadata(0o755), entries[""])
    for line in lines.splitlines():
        if not line or line.startswith("#"):
            continue
        kind, path, *fields = line.split(" ")
        node = nodes[fields[0]] if kind == "h" else _node(kind, fields)
        nodes[path] = node
        if isinstance(node, Directory):
            entries[path] = node.entries  # type: ignore[assignment]
        parent, _, name = path.rpartition("/")
        entries[parent][name] = node
    return Tree(root)


def _node(kind: str, fields: list[str]) -> Node:
    mode, uid, gid, mtime, *more = fields
    xattrs = tuple((name, value.encode()) for name, _, value in (one.partition("=") for one in more if "=" in one))
    metadata = Metadata(int(mode, 8), int(uid), int(gid), int(mtime), xattrs)
    match kind:
        case "d":
            return Directory(metadata, {})
        case "f":
            return File(metadata, _content(*more[0].split(":")))
        case "l":
            return Symlink(metadata, more[0])
        case "b" | "c":
            major, _, minor = more[0].partition(":")
            return Device(metadata, DeviceKind(kind), int(major), int(minor))
        case "p":
            return Fifo(metadata)
        case "s":
            return Socket(metadata)
    raise ValueError(kind)


def _content(kind: str, size: str, seed: str = "0") -> Content:
    match kind:
        case "text":
            return Made(text, int(size), int(seed))
        case "noise":
            return Made(noise, int(size), int(seed))
        case "hole":
            return Sparse(int(size))
    raise ValueError(kind)
