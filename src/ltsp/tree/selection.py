"""Select the parts of a source to include, before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.tree.node import Node


class Inclusion(Enum):
    """How a path is included."""

    ALL = "all"
    """Included; the selection decides about each entry of a directory."""
    EMPTIED = "emptied"
    """The directory is included with its metadata, but empty, and is never opened."""
    NOTHING = "nothing"
    """Excluded with everything below it; a directory is never opened."""


Selection = Callable[[str, bool], Inclusion]
"""From a path relative to the root, without a leading slash (`etc/passwd`), and whether it is a directory.

The selection is not called for the root itself. EMPTIED is valid only for directories.
"""


DirectoryFilter = Callable[[Sequence[str]], Sequence[bool]]
"""Which of these directories, by path, to read. For readers in another process: the selection is applied to the result
afterwards, and asking once for many saves round trips.
"""


@dataclass(slots=True)
class ObservedSelection:
    """A selection that observes what it excludes, when a complete tree is available (`Tree.select`)."""

    selection: Selection
    on_left_out: Callable[[str, Node], None]
    """Called with the topmost excluded paths and their nodes."""

    def __call__(self, path: str, directory: bool) -> Inclusion:
        return self.selection(path, directory)


def select_all(_path: str, _directory: bool) -> Inclusion:
    return Inclusion.ALL


def enter_all(paths: Sequence[str]) -> Sequence[bool]:
    return [True] * len(paths)


def combine_selections(*selections: Selection) -> Selection:
    """The selection that includes what all of these include: the most restrictive answer wins."""
    chosen = tuple(selection for selection in selections if selection is not select_all)
    if not chosen:
        return select_all
    if len(chosen) == 1:
        return chosen[0]

    def select_path(path: str, directory: bool) -> Inclusion:
        strongest = Inclusion.ALL
        for selection in chosen:
            answer = selection(path, directory)
            if answer is Inclusion.NOTHING:
                return answer
            if answer is Inclusion.EMPTIED:
                strongest = answer
        return strongest

    return select_path


def make_excluding_selection(paths: Iterable[str]) -> Selection:
    """The selection that leaves out exactly these paths and everything below them."""
    gone = frozenset(path.strip("/") for path in paths)
    return lambda path, _directory: Inclusion.NOTHING if path in gone else Inclusion.ALL


def make_emptying_selection(paths: Iterable[str]) -> Selection:
    """The selection that keeps exactly these directories, but nothing in them."""
    emptied = frozenset(path.strip("/") for path in paths)
    return lambda path, directory: Inclusion.EMPTIED if directory and path in emptied else Inclusion.ALL
