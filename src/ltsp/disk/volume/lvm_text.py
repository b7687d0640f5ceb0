"""Parse the metadata text of LVM2: sections, and keys with strings, integers and lists.

    vg { seqno = 4
         status = ["READ", "WRITE"] }

lvm2's lib/config/config.c
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from ltsp.errors import FormatError
from ltsp.tree.name import decode

Value: TypeAlias = "int | str | list[int | str] | Section"
Section: TypeAlias = dict[str, Value]

_TOKEN: Final = re.compile(
    rb"""(?:[\s\0]|\#[^\n]*)*+(?:(?P<sign>[{}\[\]=,])|"(?P<text>(?:[^"\\]|\\.)*+)"|(?P<word>[\w.+/-]++))""", re.ASCII
)
_CHARACTERS: Final = re.compile(rb"(?:[\s\0]|#[^\n]*)*+\Z")
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_MAX_DEPTH: Final = 16


def parse(data: bytes) -> Section:
    """Raises FormatError."""
    root: Section = {}
    above: list[Section] = []
    here = root
    key = ""
    values: list[int | str] | None = None
    expected = ""
    """`=` after a `=`: a value must follow."""
    at = 0
    while match := _TOKEN.match(data, at):
        at = match.end()
        sign = (match["sign"] or b"").decode()
        if sign == "{" and key and not expected and len(above) < _MAX_DEPTH:
            child: Section = {}
            here[key] = child
            above.append(here)
            here, key = child, ""
        elif sign == "}" and above and not key:
            here = above.pop()
        elif sign == "=" and key and not expected:
            expected = sign
        elif sign == "[" and expected and values is None:
            values = []
        elif sign == "]" and values is not None:
            here[key] = values
            key, expected, values = "", "", None
        elif sign == "," and values is not None:
            pass
        elif sign:
            raise FormatError("the LVM metadata is damaged: syntax error")
        elif values is not None:
            values.append(_parse_value(match))
        elif expected:
            here[key] = _parse_value(match)
            key, expected = "", ""
        elif key or match["word"] is None:
            raise FormatError("the LVM metadata is damaged: a key has no value")
        else:
            key = match["word"].decode()
    if above or key or values is not None or not _CHARACTERS.match(data, at):
        raise FormatError("the LVM metadata is damaged: unexpected end")
    return root


def _parse_value(match: re.Match[bytes]) -> int | str:
    quoted = match["text"]
    if quoted is not None:
        return decode(_ESCAPED.sub(rb"\1", quoted))
    word: bytes = match["word"]
    try:
        return int(word[:20])
    except ValueError:
        return word.decode()


def get_section(of: Section, key: str) -> Section:
    match of.get(key, {}):
        case dict(found):
            return found
    raise FormatError(f"the LVM metadata is damaged: {key} is not a section")


def get_number(of: Section, key: str, default: int | None = None) -> int:
    match of.get(key, default):
        case int(found) if 0 <= found < 1 << 63:
            return found
    raise FormatError(f"the LVM metadata is damaged: {key} is not a number")


def get_text(of: Section, key: str, default: str = "") -> str:
    match of.get(key, default):
        case str(found):
            return found
    raise FormatError(f"the LVM metadata is damaged: {key} is not a string")


def get_list(of: Section, key: str) -> list[int | str]:
    match of.get(key, []):
        case list(found):
            return found
        case int() | str() as single:
            return [single]
    raise FormatError(f"the LVM metadata is damaged: {key} is not a list")
