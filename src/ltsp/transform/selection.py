"""Several selections as one."""

from __future__ import annotations

from collections.abc import Iterable

from ltsp.tree.selection import Selection, Take, everything


def combined(*selections: Selection) -> Selection:
    """The selection that takes in what all of these take in: the strongest answer wins."""
    chosen = tuple(selection for selection in selections if selection is not everything)
    if not chosen:
        return everything
    if len(chosen) == 1:
        return chosen[0]

    def take(path: str, directory: bool) -> Take:
        strongest = Take.ALL
        for selection in chosen:
            answer = selection(path, directory)
            if answer is Take.NOTHING:
                return answer
            if answer is Take.EMPTIED:
                strongest = answer
        return strongest

    return take


def leave_out(paths: Iterable[str]) -> Selection:
    """The selection that leaves out these very paths and what lies below them."""
    gone = frozenset(path.strip("/") for path in paths)
    return lambda path, _directory: Take.NOTHING if path in gone else Take.ALL


def empty(paths: Iterable[str]) -> Selection:
    """The selection that keeps these very directories, and nothing in them."""
    emptied = frozenset(path.strip("/") for path in paths)
    return lambda path, directory: Take.EMPTIED if directory and path in emptied else Take.ALL
