"""Rules for paths: the list files that have them, and patterns of several components, each with a value.

A list has one rule a line: the built-in list or the site's, tuned by ADD_ and OMIT_ settings. The built-in table of
tools that store other systems, machines and databases (`lists/image.tools`) extends the lists of exclusions and of
secrets.

As in mksquashfs, a pattern is split at its slashes first, a component matches one name, and a match of a directory
covers everything below it. Patterns are matched a directory at a time; only directories that some pattern leads into
cost time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ltsp.transform.pattern import Matcher, compile_wildcard, is_plain, matches_everything
from ltsp.tree.name import printable

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class PatternSyntax:
    """How the components of a pattern are interpreted."""

    compile_component: Callable[[str], Matcher]
    is_literal: Callable[[str], bool] = is_plain
    """Whether a component is a plain name."""
    is_catch_all: Callable[[str], bool] = lambda _component: False
    """Whether a component matches every name."""
    deep: bool = False
    """Whether `**` stands for any number of directories."""


LIST_SYNTAX = PatternSyntax(
    lambda component: compile_wildcard(component, match_hidden=True), is_catch_all=matches_everything
)
"""Our own lists: wildcards match hidden entries too."""

MKSQUASHFS_SYNTAX = PatternSyntax(lambda component: compile_wildcard(component, match_hidden=False))
"""`mksquashfs -wildcards`: a wildcard does not match a leading dot."""


@dataclass(slots=True, eq=False)
class _PatternNode(Generic[V]):
    """A node of the tree of patterns: the components that may follow in one directory."""

    is_recursive: bool
    """Whether it also applies in the directories below (`**`, `... name`)."""
    edges: dict[str, PatternEdge[V]] = field(default_factory=dict)
    deep: _PatternNode[V] | None = None
    """The node after `**`."""

    def list_rests(self) -> Iterator[tuple[str, V]]:
        """The rest of the patterns from here, with their values."""
        for text, edge in self.edges.items():
            for rest, value in edge.list_rests():
                yield f"{text}/{rest}".rstrip("/"), value
        for rest, value in self.deep.list_rests() if self.deep is not None else ():
            yield f"**/{rest}", value


@dataclass(slots=True, eq=False)
class PatternEdge(Generic[V]):
    """A component of patterns, with the values of those that end here and the node for the others."""

    matches: Matcher | None
    """None if it matches only its own text."""
    is_catch_all: bool
    values: list[V] = field(default_factory=list)
    next_node: _PatternNode[V] | None = None

    def list_rests(self) -> Iterator[tuple[str, V]]:
        """The rest of each pattern through this component, and its value; the rest is empty where a pattern ends."""
        for value in self.values:
            yield "", value
        if self.next_node is not None:
            yield from self.next_node.list_rests()


@dataclass(slots=True, eq=False)
class RuleLevel(Generic[V]):
    """The rules for the entries of one directory."""

    _states: tuple[_PatternNode[V], ...]
    covering_values: tuple[V, ...]
    """Values of rules that match this directory or one above it, and so everything below."""
    catch_all_values: tuple[V, ...] = field(init=False)
    """Values of rules that match every entry."""
    _plain: dict[str, list[PatternEdge[V]]] = field(init=False)
    _wild: list[tuple[Matcher, PatternEdge[V]]] = field(init=False)

    def __post_init__(self) -> None:
        edges = [(text, edge) for state in self._states for text, edge in state.edges.items()]
        self.catch_all_values = tuple(value for _, edge in edges if edge.is_catch_all for value in edge.values)
        self._plain = {}
        for text, edge in edges:
            if edge.matches is None:
                self._plain.setdefault(text, []).append(edge)
        self._wild = [(edge.matches, edge) for _, edge in edges if edge.matches is not None]

    @property
    def is_unaffected(self) -> bool:
        """Whether no rule matches this directory's entries or anything below."""
        return not self._states and not self.covering_values

    @property
    def may_match_below(self) -> bool:
        """Whether some rule may match an entry of this directory or one below it."""
        return bool(self._states)

    def edges(self, name: str) -> list[PatternEdge[V]]:
        """The edges of the patterns that lead to or through this entry."""
        found = self._plain.get(name, [])
        if self._wild:
            found = found + [edge for matches, edge in self._wild if matches(name)]
        return found

    def values(self, name: str) -> tuple[V, ...]:
        """The values of the rules that match this entry itself."""
        return tuple(value for edge in self.edges(name) for value in edge.values)

    def descend(self, name: str) -> _LevelKey[V]:
        """The states and the covering values of the directory of this name."""
        edges = self.edges(name)
        below = [edge.next_node for edge in edges if edge.next_node is not None]
        states = dict.fromkeys(
            [state for state in self._states if state.is_recursive]
            + [state for names in below for state in (names, names.deep) if state is not None]
        )
        values = tuple(value for edge in edges for value in edge.values)
        return tuple(states), tuple(dict.fromkeys((*self.covering_values, *values))) if values else self.covering_values


_LevelKey = tuple[tuple[_PatternNode[V], ...], tuple[V, ...]]
"""The state of a directory: its position in the patterns, and the values that cover it."""


class PathRules(Generic[V]):
    """Patterns and their values.

    A `... ` before a pattern makes it hold in every directory, as in mksquashfs; of several components
    (`... cache/tmp`) as its versions from 4.6 on read it.
    """

    def __init__(self, patterns: Iterable[tuple[str, V]], syntax: PatternSyntax) -> None:
        self._syntax = syntax
        self._root: _PatternNode[V] = _PatternNode(is_recursive=False)
        self._everywhere: _PatternNode[V] = _PatternNode(is_recursive=True)
        for pattern, value in patterns:
            if pattern.startswith("... "):
                self._add(self._everywhere, pattern[4:], value)
            else:
                self._add(self._root, pattern, value)
        first = tuple(
            state for state in (self._everywhere, self._root, self._root.deep) if state and _has_patterns(state)
        )
        root: RuleLevel[V] = RuleLevel(first, ())
        self._by_state: dict[_LevelKey[V], RuleLevel[V]] = {(first, ()): root}
        self._levels: dict[str, RuleLevel[V]] = {"": root}

    def _add(self, names: _PatternNode[V], pattern: str, value: V) -> None:
        components = [component for component in pattern.split("/") if component]
        edge: PatternEdge[V] | None = None
        for index, component in enumerate(components):
            if edge is not None:
                if edge.next_node is None:
                    edge.next_node = _PatternNode(is_recursive=False)
                names = edge.next_node
            if self._syntax.deep and component == "**" and index < len(components) - 1:
                if names.deep is None:
                    names.deep = _PatternNode(is_recursive=True)
                names, edge = names.deep, None
                continue
            edge = names.edges.get(component)
            if edge is None:
                matches = None if self._syntax.is_literal(component) else self._syntax.compile_component(component)
                edge = names.edges[component] = PatternEdge(matches, self._syntax.is_catch_all(component))
        if edge is not None:
            edge.values.append(value)

    def level(self, directory: str) -> RuleLevel[V]:
        """The rules for the entries of a directory; "" is the root."""
        found = self._levels.get(directory)
        return self._add_level(directory) if found is None else found

    def _add_level(self, directory: str) -> RuleLevel[V]:
        """The level of a new directory, without recursion: it may be deeper than the interpreter's stack."""
        unknown: list[str] = []
        above = directory
        while above not in self._levels:
            unknown.append(above)
            above = above.rpartition("/")[0]
        level = self._levels[above]
        for path in reversed(unknown):
            if not level.is_unaffected:
                key = level.descend(path.rpartition("/")[2])
                level = self._by_state.get(key) or self._by_state.setdefault(key, RuleLevel(*key))
            self._levels[path] = level
        return level

    def find_values(self, path: str) -> tuple[V, ...]:
        """The values of the rules for a path, then of those for the directories above it."""
        parent, _, name = path.rpartition("/")
        level = self.level(parent)
        return level.values(name) + level.covering_values


def _has_patterns(names: _PatternNode[V]) -> bool:
    return bool(names.edges or names.deep)


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
