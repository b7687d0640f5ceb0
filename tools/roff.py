"""Markdown to roff: what manual pages need of it, as man(7) macros that groff and mandoc accept without warnings.

The elements are headings, paragraphs, definition lists, code blocks, **bold**, *italic* and `code`, which becomes bold.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import mistune

_WIDTH = 78
_Token = dict[str, Any]
"""Of mistune: a type, and the raw text or the tokens inside."""

_parse = mistune.create_markdown(renderer="ast", plugins=["def_list"])


def roff(markdown: str) -> str:
    """The body of a page. Raises ValueError for an element that is not supported."""
    tokens = _parse(markdown)
    assert not isinstance(tokens, str)
    lines: list[str] = []
    for token in tokens:
        block = list(_block(token))
        if block[:1] == [".PP"] and lines and lines[-1].startswith((".SH", ".SS")):
            del block[0]  # a heading begins a paragraph
        lines += block
    return "".join(f"{line}\n" for line in lines)


def escape(text: str) -> str:
    """Literal text: hyphens stay hyphens, quotes stay straight."""
    for character, escaped in (
        ("\\", r"\e"),
        ("-", r"\-"),
        ("'", r"\(aq"),
        ("`", r"\(ga"),
        ("~", r"\(ti"),
        ("^", r"\(ha"),
    ):
        text = text.replace(character, escaped)
    return text


def _block(token: _Token) -> Iterator[str]:
    match token:
        case {"type": "blank_line"}:
            pass
        case {"type": "heading", "attrs": {"level": level}, "children": children}:
            yield f"{'.SH' if level == 2 else '.SS'} {_inline(children)}"
        case {"type": "paragraph", "children": children}:
            yield from (".PP", *_fill(children))
        case {"type": "block_code", "raw": raw}:
            yield from (".PP", ".RS 4", ".nf", *(_guard(escape(line)) for line in raw.splitlines()), ".fi", ".RE")
        case {"type": "def_list", "children": children}:
            for child in children:
                yield from _definition(child)
        case _:
            raise ValueError(f"manual pages cannot have a {token['type']}: {token}")


def _definition(token: _Token) -> Iterator[str]:
    match token:
        case {"type": "def_list_head", "children": children}:
            yield from (".TP", _guard(_inline(children)))
        case {"type": "def_list_item", "children": [{"type": "block_text", "children": children}]}:
            yield from _fill(children)
        case _:
            raise ValueError(f"a definition is one paragraph: {token}")


def _fill(tokens: Iterable[_Token]) -> Iterator[str]:
    for line in textwrap.wrap(_inline(tokens), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _guard(line)


def _inline(tokens: Iterable[_Token], *, literal: bool = False) -> str:
    return "".join(_span(token, literal=literal) for token in tokens)


def _span(token: _Token, *, literal: bool) -> str:
    match token:
        case {"type": "text", "raw": raw}:
            text = escape(raw) if literal else raw.replace("\\", r"\e").replace("--", r"\-\-").replace(" - ", r" \- ")
            return text.replace("\xa0", r"\~")
        case {"type": "softbreak"}:
            return " "
        case {"type": "codespan", "raw": raw}:
            return rf"\fB{escape(raw)}\fR"
        case {"type": "strong", "children": children}:
            return rf"\fB{_inline(children, literal=True)}\fR"
        case {"type": "emphasis", "children": children}:
            return rf"\fI{_inline(children, literal=True)}\fR"
        case _:
            raise ValueError(f"manual pages cannot have {token['type']}: {token}")


def _guard(line: str) -> str:
    """Keep a line that begins with a dot or quote from being a request."""
    return re.sub(r"^([.'])", r"\\&\1", line)
