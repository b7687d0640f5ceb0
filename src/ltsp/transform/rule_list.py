"""List files: one rule a line, the built-in list or the site's, tuned by ADD_ and OMIT_ settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class ListLine:
    """A line that is neither blank nor a comment."""

    text: str
    """Without surrounding white space."""
    file: str
    number: int
    """From 1."""

    def __str__(self) -> str:
        return f"{printable(self.file)}, line {self.number}"


@dataclass(frozen=True, slots=True)
class TunedList:
    """A list after ADD and OMIT."""

    lines: tuple[ListLine, ...]
    omitted: tuple[ListLine, ...]
    """The lines that OMIT removed."""
    warnings: tuple[str, ...]


def read_built_in(name: str) -> Iterator[ListLine]:
    """The lines of a list that comes with the package."""
    with open(os.path.join(os.path.dirname(__file__), "lists", name), encoding="utf-8") as file:
        return parse_lines(file.read(), name)


def parse_lines(text: str, file: str) -> Iterator[ListLine]:
    """The lines of a list, without blank ones and comments (`#`).

    White space at either end is dropped, also the carriage return that some editors leave. To begin a name with a
    blank, `#` or a backslash, put a backslash before it; to end it with a blank, write `[ ]`.
    """
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r\f\v")
        if stripped and not stripped.startswith("#"):
            yield ListLine(stripped.removeprefix("\\"), file, number)


def tune_list(
    base: Iterator[ListLine], add: Iterator[ListLine], omit: Iterator[ListLine], key: Callable[[str], str] = str
) -> TunedList:
    """The base with lines added, each replacing an equal one, and lines removed.

    `key`: by which part of a line it is the same as another.
    """
    kept = {key(line.text): line for line in base}
    for line in add:
        kept[key(line.text)] = line
    omitted: list[ListLine] = []
    warnings: list[str] = []
    for line in omit:
        found = kept.pop(key(line.text), None)
        if found is not None:
            omitted.append(found)
        elif all(key(line.text) != key(other.text) for other in omitted):
            from difflib import get_close_matches  # noqa: PLC0415 -- seldom needed

            close = get_close_matches(line.text, [other.text for other in kept.values()], 1)
            meant = f"; did you mean {printable(close[0])}?" if close else ""
            warnings.append(f"{line}: {printable(line.text)} is not in the list{meant}")
    return TunedList(tuple(kept.values()), tuple(omitted), tuple(warnings))
