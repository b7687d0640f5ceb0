"""Wildcards for one component of a path, with the semantics of fnmatch(3) of glibc and FNM_EXTMATCH.

mksquashfs uses it for each component of its `-wildcards` patterns: `*`, `?`, `[…]`, `[!…]`, a backslash, and
`?(…)`, `*(…)`, `+(…)`, `@(…)`, `!(…)` with `|` between the alternatives. mksquashfs never calls setlocale(3), so the
unit is the byte: `?` matches one byte of a longer character.

Oddities of glibc are not reproduced: a group right after a star is not tried at the end of the name, a star at the end
of an alternative forgets what comes after the group, `*?[…]` takes the second character for a leading dot, and a
bracket expression ends at an unknown class or an invalid range.

This module does not handle paths; see `rules`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from ltsp.tree.name import encode

Matcher = Callable[[str], bool]
"""Whether a name matches."""


def literal(path: str) -> str:
    """The pattern that matches only this path."""
    return re.sub(r"([*?\[\\+@!])", r"\\\1", path.strip("/"))


def is_plain(component: str) -> bool:
    """Whether a component has no wildcard, so that it matches only itself."""
    return _WILDCARD.search(component) is None


def matches_everything(component: str) -> bool:
    """Whether a component consists only of stars, regardless of a leading dot in names."""
    return component != "" and not component.strip("*")


def compile_wildcard(component: str, *, match_hidden: bool) -> Matcher:
    """The matcher of a component.

    `match_hidden`: wildcards match a leading dot too. mksquashfs does not let them (FNM_PERIOD); our own lists do.
    """
    sequence = _parse(_to_bytes_text(component))
    if _is_cheap(sequence):
        match = re.compile(_sequence_regex(sequence, "" if match_hidden else r"(?!\A\.)"), re.DOTALL).fullmatch
        return lambda name: match(_to_bytes_text(name)) is not None

    def matches(name: str) -> bool:
        text = _to_bytes_text(name)
        return len(text) in _find_ends(sequence, text, {0}, match_hidden)

    return matches


@dataclass(frozen=True, slots=True)
class _CharacterSet:
    """`?`, `[…]`, or a literal character: one character of a set."""

    characters: frozenset[str]
    literal: bool = False
    """Only a literal character matches a leading dot."""


@dataclass(frozen=True, slots=True)
class _Star:
    """`*`"""


@dataclass(frozen=True, slots=True)
class _Group:
    """`KIND(ALTERNATIVE|…)`"""

    kind: str
    alternatives: tuple[_Sequence, ...]


_Element = _CharacterSet | _Star | _Group
_Sequence = tuple[_Element, ...]

_WILDCARD = re.compile(r"[*?\[\\]|[+@!]\(")
_ALL_CHARACTERS = frozenset(map(chr, range(256)))
_CLASSES = {
    name: frozenset(character for character in _ALL_CHARACTERS if re.match(f"[{body}]", character))
    for name, body in {
        "alnum": r"0-9A-Za-z",
        "alpha": r"A-Za-z",
        "blank": r" \t",
        "cntrl": r"\x00-\x1f\x7f",
        "digit": r"0-9",
        "graph": r"\x21-\x7e",
        "lower": r"a-z",
        "print": r"\x20-\x7e",
        "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
        "space": r"\t-\r ",
        "upper": r"A-Z",
        "xdigit": r"0-9A-Fa-f",
    }.items()
}
"""The character classes of the C locale."""


def _to_bytes_text(name: str) -> str:
    """The name with one character for each of its bytes."""
    return name if name.isascii() else encode(name).decode("latin-1")


def _parse(text: str) -> _Sequence:
    elements: list[_Element] = []
    at = 0
    while at < len(text):
        character = text[at]
        group = _split_group(text, at) if text[at + 1 : at + 2] == "(" and character in "?*+@!" else None
        at += 1
        if group is not None:
            alternatives, at = group
            elements.append(_Group(character, tuple(map(_parse, alternatives))))
        elif character == "*":
            if elements[-1:] != [_Star()]:
                elements.append(_Star())
        elif character == "?":
            elements.append(_CharacterSet(_ALL_CHARACTERS))
        elif character == "[" and (bracket := _parse_bracket(text, at)) is not None:
            characters, at = bracket
            elements.append(_CharacterSet(characters))
        elif character == "\\":
            elements.append(_CharacterSet(frozenset(text[at : at + 1]), literal=True))  # at the end: matches nothing
            at += 1
        else:
            elements.append(_CharacterSet(frozenset(character), literal=True))
    return tuple(elements)


def _split_group(text: str, at: int) -> tuple[list[str], int] | None:
    """The alternatives of the group that starts at `at`, and where it ends; None if it is not closed.

    As in glibc, a backslash is not an escape while searching for the end.
    """
    alternatives: list[str] = []
    level = 0
    at += 2
    begin = at
    while at < len(text):
        character = text[at]
        if character == "[":
            at += 2 if text[at + 1 : at + 2] in ("!", "^") else 1
            closing = text.find("]", at + 1 if text[at : at + 1] == "]" else at)
            if closing < 0:
                return None
            at = closing
        elif character in "?*+@!" and text[at + 1 : at + 2] == "(":
            level += 1
            at += 1
        elif character == "|" and level == 0:
            alternatives.append(text[begin:at])
            begin = at + 1
        elif character == ")":
            if level == 0:
                return [*alternatives, text[begin:at]], at + 1
            level -= 1
        at += 1
    return None


def _parse_bracket(text: str, at: int) -> tuple[frozenset[str], int] | None:
    """The characters of the bracket expression that begins at `at`, after its `[`, and where it ends.

    None if it is not closed: the `[` then stands for itself.
    """
    negated = text[at : at + 1] in ("!", "^")
    at += negated
    characters: set[str] = set()
    first = True
    while at < len(text) and (text[at] != "]" or first):
        first = False
        named = re.compile(r"\[:([a-y]*):\]").match(text, at)
        if named is not None:
            at = named.end()
            characters |= _CLASSES.get(named[1], frozenset())
            continue
        equivalent = re.compile(r"\[=(.)=\]", re.DOTALL).match(text, at)
        if equivalent is not None:
            characters.add(equivalent[1])
            at = equivalent.end()
            continue
        low, at = _parse_member(text, at)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in ("", "]"):
            high, at = _parse_member(text, at + 1)
            if low and high:
                characters.update(map(chr, range(ord(low), ord(high) + 1)))
        else:
            characters.update(low)
    if at >= len(text):
        return None
    return (_ALL_CHARACTERS - characters if negated else frozenset(characters)), at + 1


def _parse_member(text: str, at: int) -> tuple[str, int]:
    """One member of a bracket expression, or one end of a range, and where it ends."""
    collating = re.compile(r"\[\.(.)\.\]", re.DOTALL).match(text, at)
    if collating is not None:
        return collating[1], collating.end()
    if text[at] == "\\":
        return text[at + 1 : at + 2], at + 2
    return text[at], at + 1


def _is_cheap(sequence: _Sequence) -> bool:
    """Whether its regular expression takes time at most quadratic in the name's length."""
    stars = sum(isinstance(element, _Star) for element in sequence)
    return stars <= 2 and all(
        isinstance(element, _CharacterSet | _Star)
        or (
            (element.kind in "@?" or (element.kind == "!" and index == len(sequence) - 1))
            and all(isinstance(part, _CharacterSet) for alternative in element.alternatives for part in alternative)
        )
        for index, element in enumerate(sequence)
    )


def _sequence_regex(sequence: _Sequence, guard: str) -> str:
    """A cheap sequence as a regular expression; `guard` keeps a wildcard off a leading dot."""
    return "".join(_element_regex(element, guard) for element in sequence)


def _element_regex(element: _Element, guard: str) -> str:
    match element:
        case _Star():
            return f"{guard}.*"
        case _CharacterSet(characters, literal):
            return _set_regex(characters) if literal else guard + _set_regex(characters)
        case _Group(kind, alternatives):
            either = "|".join(_sequence_regex(alternative, guard) for alternative in alternatives)
            if kind == "!":
                return rf"(?!(?:{either})\Z).*"
            return f"(?:{either})" + ("?" if kind == "?" else "")
        case _:
            assert_never(element)


def _set_regex(characters: frozenset[str]) -> str:
    if len(characters) == 1:
        return re.escape(next(iter(characters)))
    if not characters:
        return "(?!)"
    if characters == _ALL_CHARACTERS:
        return "."
    return f"[{''.join(map(re.escape, sorted(characters)))}]"


def _find_ends(sequence: _Sequence, text: str, starts: set[int], match_hidden: bool) -> set[int]:
    """Where a match of the sequence that starts at one of `starts` can end; never more than quadratic in the text."""
    for element in sequence:
        if not starts:
            break
        starts = _find_element_ends(element, text, starts, match_hidden)
    return starts


def _find_element_ends(element: _Element, text: str, starts: set[int], match_hidden: bool) -> set[int]:
    match element:
        case _Star():
            starts = _drop_hidden(text, starts, match_hidden)
            return set(range(min(starts), len(text) + 1)) if starts else starts
        case _CharacterSet(characters, literal):
            starts = starts if literal else _drop_hidden(text, starts, match_hidden)
            return {start + 1 for start in starts if text[start : start + 1] in characters and start < len(text)}
        case _Group(kind, alternatives):
            return _find_group_ends(kind, alternatives, text, starts, match_hidden)
        case _:
            assert_never(element)


def _find_group_ends(
    kind: str, alternatives: tuple[_Sequence, ...], text: str, starts: set[int], match_hidden: bool
) -> set[int]:
    def once(begins: set[int]) -> set[int]:
        return set().union(*(_find_ends(alternative, text, begins, match_hidden) for alternative in alternatives))

    if kind == "!":
        return set().union(*(set(range(start, len(text) + 1)) - once({start}) for start in starts))
    found = once(starts)
    if kind in "*+":
        fresh = found
        while fresh := once(fresh) - found:
            found |= fresh
    return found if kind in "@+" else found | starts


def _drop_hidden(text: str, starts: set[int], match_hidden: bool) -> set[int]:
    """Where a wildcard may start: not at a leading dot, unless it is to match that too."""
    return starts if match_hidden or not text.startswith(".") else starts - {0}
