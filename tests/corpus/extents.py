"""The bytes of extents in open files, to compare with the output of a reader."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ltsp.storage.extents import HOLE, Extent, NotInFiles, merge_extents
from ltsp.tree.node import File
from ltsp.tree.tree import Tree


def read_extents(extents: Iterable[Extent]) -> bytes:
    return b"".join(bytes(size) if file == HOLE else os.pread(file, size, offset) for file, offset, size in extents)


def moved(tree: Tree) -> list[str]:
    """Paths of files whose bytes are not those at the places that are said; files that are said to lie nowhere pass."""
    found = []
    for path, node in tree.walk():
        if isinstance(node, File):
            with node.content.open() as stream, node.content.open() as other:
                try:
                    places = merge_extents(other.extents(), 1 << 20) if hasattr(other, "extents") else None
                except NotInFiles:
                    continue
                if places is not None and read_extents(places) != stream.read(stream.size):
                    found.append(path)
    return found
