"""List files: one rule a line, the built-in list or the site's, tuned by ADD_ and OMIT_ settings.

The built-in table of tools that store other systems, machines and databases (`lists/image.tools`) extends the lists of
exclusions and of secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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


_TITLE = re.compile(r"\[(?P<name>[^\]]+)\]\s+(?P<source>\S.*)")
_EXCLUDED = re.compile(r"E\s+(?P<pattern>\S+)(?P<reason>.*)")


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    source: str
    """The documentation of its paths."""
    rows: tuple[ListLine, ...]
    """As in the list of secrets, plus E."""


def read_tools() -> Iterator[Tool]:
    """The tools in the order of the table.

    Raises ValueError where a row stands before the first title.
    """
    tool: Tool | None = None
    for line in read_built_in("image.tools"):
        title = _TITLE.fullmatch(line.text)
        if title is not None:
            if tool is not None:
                yield tool
            tool = Tool(title["name"], title["source"], ())
        elif tool is None:
            raise ValueError(str(line))
        else:
            tool = replace(tool, rows=(*tool.rows, line))
    if tool is not None:
        yield tool


def read_exclusions() -> Iterator[ListLine]:
    """The rows E as lines of the list of exclusions."""
    for tool in read_tools():
        for line in tool.rows:
            if match := _EXCLUDED.fullmatch(line.text):
                yield replace(line, text=match["pattern"])


def read_secret_rows() -> Iterator[ListLine]:
    """All rows in the format of the list of secrets."""
    for tool in read_tools():
        for line in tool.rows:
            match = _EXCLUDED.fullmatch(line.text)
            yield line if match is None else replace(line, text=f"X {match['pattern']}{match['reason']}")
