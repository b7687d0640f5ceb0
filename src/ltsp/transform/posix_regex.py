"""Regular expressions for one component of a path, as in mksquashfs's `-regex`: regcomp(3), REG_EXTENDED.

A name matches if the expression matches anywhere in it. It is translated to Python's `re`; what that cannot express is
refused.
"""

from __future__ import annotations

import re

from ltsp.errors import UsageError
from ltsp.transform.pattern import Matcher
from ltsp.tree.name import encode, printable

_TOKEN = re.compile(
    r"""
      \\(?P<escaped>.)
    | (?P<bracket>\[\^?\]?(?:\[(?P<kind>[:.=]).*?(?P=kind)\]|[^\]])*\])
    | (?P<bound>\{\d+(?:,\d*)?\}|\{,\d+\})
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_GNU = {"w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]", "s": r"[ \t-\r]", "S": r"[^ \t-\r]", "b": r"\b", "B": r"\B"}
_GNU |= {"<": r"\b(?=[0-9A-Za-z_])", ">": r"\b(?<=[0-9A-Za-z_])", "`": r"\A", "'": r"\Z"}
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def compile_regex(component: str) -> Matcher:
    """The matcher of a component.

    Raises UsageError if it is not a regular expression.
    """
    text = encode(component).decode("latin-1")
    try:
        search = re.compile("".join(map(_translate, _TOKEN.finditer(text))), re.DOTALL | re.ASCII).search
    except (re.error, KeyError) as error:
        raise UsageError(f"invalid regular expression {printable(component)}: {error}") from error
    return lambda name: search(name if name.isascii() else encode(name).decode("latin-1")) is not None


def _translate(token: re.Match[str]) -> str:
    if (escaped := token["escaped"]) is not None:
        if escaped.isdigit():
            return f"(?:\\{escaped})"
        return _GNU.get(escaped) or re.escape(escaped)
    if (bracket := token["bracket"]) is not None:
        return _translate_bracket(bracket)
    if (bound := token["bound"]) is not None:
        return bound.replace("{,", "{0,")
    if (other := token["other"]) == "$":
        return r"\Z"
    if other == "(":
        # `(?` is Python syntax only: in POSIX the question mark would have nothing to repeat.
        return "(" if token.string[token.end() : token.end() + 1] not in ("?", "*", "+") else "(*"
    if other == "[":
        raise re.error("unclosed [")
    return "\\" + other if other in "{}" else other


def _translate_bracket(text: str) -> str:
    """A bracket expression, in which a backslash is literal."""
    negated = text.startswith("[^")
    body = text[2:-1] if negated else text[1:-1]

    def part(match: re.Match[str]) -> str:
        if match[1] is not None:
            return _CLASSES[match[1]]
        return re.escape(match[2] or match[0]) if match[0] != "-" else "-"

    inner = re.sub(r"\[:(\w*):\]|\[[.=](.)[.=]\]|.", part, body, flags=re.DOTALL)
    # A hyphen at either end is literal.
    inner = re.sub(r"\A-", r"\\-", re.sub(r"(?<!\\)-\Z", r"\\-", inner))
    return f"[{'^' if negated else ''}{inner}]"
