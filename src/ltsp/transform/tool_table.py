"""The table of tools that store other systems, machines and databases, with all their paths (`lists/image.tools`).

Its rows extend the lists of exclusions and of secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ltsp.transform.rule_list import ListLine, read_built_in

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
