"""Which parts of a source are taken in. Asked before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.tree.node import Node


class Inclusion(Enum):
    """What becomes of a path."""

    ALL = "all"
    """It is in the image; a directory's entries are asked about one by one."""
    EMPTIED = "emptied"
    """The directory is in the image with its own metadata and nothing in it, and is never opened."""
    NOTHING = "nothing"
    """It is not in the image, and neither is what lies below it; a directory is never opened."""


Selection = Callable[[str, bool], Inclusion]
"""From a path relative to the root, without a leading slash (`etc/passwd`), and whether it is a directory.

The root itself is never asked about. EMPTIED is an answer for directories only.
"""


DirectoryFilter = Callable[[Sequence[str]], Sequence[bool]]
"""Of directories, by their paths, which are looked into. For who reads and does not select: what is looked into is
selected from afterwards, and to ask once for many spares the way.
"""


@dataclass(slots=True)
class ObservedSelection:
    """A selection that is shown what it leaves out, where a tree is there as a whole (`Tree.select`)."""

    selection: Selection
    left_out: Callable[[str, Node], None]
    """Told the topmost paths, and what lies there."""

    def __call__(self, path: str, directory: bool) -> Inclusion:
        return self.selection(path, directory)


def select_all(_path: str, _directory: bool) -> Inclusion:
    return Inclusion.ALL


def enter_all(paths: Sequence[str]) -> Sequence[bool]:
    return [True] * len(paths)
