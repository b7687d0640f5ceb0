"""Combines selections."""

from __future__ import annotations

from collections.abc import Iterable

from ltsp.tree.selection import Inclusion, Selection, select_all


def combine_selections(*selections: Selection) -> Selection:
    """The selection that includes what all of these include: the most restrictive answer wins."""
    chosen = tuple(selection for selection in selections if selection is not select_all)
    if not chosen:
        return select_all
    if len(chosen) == 1:
        return chosen[0]

    def take(path: str, directory: bool) -> Inclusion:
        strongest = Inclusion.ALL
        for selection in chosen:
            answer = selection(path, directory)
            if answer is Inclusion.NOTHING:
                return answer
            if answer is Inclusion.EMPTIED:
                strongest = answer
        return strongest

    return take


def leave_out(paths: Iterable[str]) -> Selection:
    """The selection that leaves out exactly these paths and everything below them."""
    gone = frozenset(path.strip("/") for path in paths)
    return lambda path, _directory: Inclusion.NOTHING if path in gone else Inclusion.ALL


def keep_empty(paths: Iterable[str]) -> Selection:
    """The selection that keeps exactly these directories, but nothing in them."""
    emptied = frozenset(path.strip("/") for path in paths)
    return lambda path, directory: Inclusion.EMPTIED if directory and path in emptied else Inclusion.ALL
