"""Snapshots of trees like those of `corpus.compare`, read through holes and with reads of every size."""

from __future__ import annotations

import hashlib
from itertools import cycle

from corpus.tree_snapshot import PAGE, Entry, Snapshot, _add
from ltsp.tree.name import encode
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Node, Socket, Symlink
from ltsp.tree.tree import Tree

READS = (PAGE, 3 * PAGE, 128 << 10, 1 << 20, 256 << 10, 17 * PAGE)
"""Bytes asked for at once; whole pages, so that zeros are told from data in the same pages."""


def snapshot(tree: Tree) -> Snapshot:
    names: dict[int, list[bytes]] = {}
    for path, node in tree.walk():
        names.setdefault(id(node), []).append(encode(path))
    return {
        encode(path): entry(node, tuple(sorted(names.get(id(node), ()))))
        for path, node in [("", tree.root), *tree.walk()]
    }


def entry(node: Node, names: tuple[bytes, ...]) -> Entry:
    kind, more = _kind(node)
    metadata = node.metadata
    return Entry(
        kind,
        metadata.mode,
        metadata.uid,
        metadata.gid,
        metadata.mtime,
        tuple((encode(name), value) for name, value in metadata.xattrs),
        names=() if kind == "d" else names,
        links=1 if kind == "d" else len(names),
        **more,
    )


def _kind(node: Node):
    match node:
        case Directory():
            return "d", {}
        case File():
            return "f", {"size": node.content.size, "digest": digest(node)}
        case Symlink():
            return "l", {"target": encode(node.target)}
        case Device():
            return "b" if node.kind is DeviceKind.BLOCK else "c", {"device": (node.major, node.minor)}
        case Fifo():
            return "p", {}
        case Socket():
            return "s", {}


def digest(file: File) -> str:
    found = hashlib.sha256()
    at = 0
    with file.content.open() as stream:
        for size in cycle(READS):
            if hole := stream.hole_size() // PAGE * PAGE:
                stream.skip(hole)
                at += hole
            piece = stream.read(size)
            if not piece:
                break
            _add(found, at, piece)
            at += len(piece)
    assert at // PAGE * PAGE == file.content.size // PAGE * PAGE
    return found.hexdigest()
