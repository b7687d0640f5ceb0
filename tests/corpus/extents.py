"""The bytes of extents in open files, to compare with the output of a reader."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ltsp.storage.extents import HOLE, ExtentStream, FileRange, NotInFiles, find_file_ranges, join_ranges
from ltsp.tree.content import Stream
from ltsp.tree.node import File
from ltsp.tree.tree import Tree


def read_extents(extents: Iterable[FileRange]) -> bytes:
    return b"".join(bytes(size) if file == HOLE else os.pread(file, size, offset) for file, offset, size in extents)


def find_places(stream: Stream) -> list[FileRange] | None:
    """The ranges of open files that hold the bytes of a stream, if it says so. Raises NotInFiles."""
    if not isinstance(stream, ExtentStream):
        return None
    return join_ranges(find_file_ranges(stream.blocks, 0, stream.size), 1 << 20)


def moved(tree: Tree) -> list[str]:
    """Paths of files whose bytes are not those at the places that are said; files that are said to lie nowhere pass."""
    found = []
    for path, node in tree.walk():
        if isinstance(node, File):
            with node.content.open() as stream, node.content.open() as other:
                try:
                    places = find_places(other)
                except NotInFiles:
                    continue
                if places is not None and read_extents(places) != stream.read(stream.size):
                    found.append(path)
    return found
