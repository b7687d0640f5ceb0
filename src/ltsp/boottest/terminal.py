"""The bytes of a serial console as lines of plain text: what a terminal would do is undone, and nothing is obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LONGEST = 1 << 16
"""Bytes of a line that are kept. A guest that writes without end must not fill our memory."""

_PIECE = re.compile(
    rb"""
      (?P<text>[^\x00-\x1f\x7f]+)
    | (?P<newline>\n)
    | (?P<return>\r)
    | (?P<back>[\b\x7f])
    | (?P<tab>\t)
    | \x1b \[ [0-?]* [ -/]* (?P<final>[@-~])
    | \x1b [\]PX^_] (?: [^\x07\x1b\n] | \x1b(?!\\) )* (?: \x07 | \x1b\\ )
    | \x1b [ -/]+ [0-~]
    | \x1b [0-OQ-WYZ\\`-~]
    | (?P<other>[\x00-\x1a\x1c-\x1f])
    """,
    re.VERBOSE,
)
"""Control sequences as of ECMA-48: CSI, strings that end with BEL or ST, charset choices, single functions."""

_MOVES = frozenset(b"HfABEFJd")
"""Final bytes of CSI sequences that go to another line or clear the screen: what follows is a new line."""
_LONGEST_SEQUENCE = 256
"""Bytes. An escape that has not ended after so many is noise, and dropped."""


class Terminal:
    """Fed with bytes in any pieces; gives lines as they end, and what stands on the last one."""

    __slots__ = ("_line", "_rest", "_returned")

    def __init__(self) -> None:
        self._rest = b""
        self._line = bytearray()
        self._returned = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end in these bytes, safe to print."""
        data = self._rest + data
        at = 0
        while at < len(data):
            match = _PIECE.match(data, at)
            if match is None:
                if data[at] == 0x1B and len(data) - at < _LONGEST_SEQUENCE and b"\n" not in data[at:]:
                    break
                at += 1
                continue
            at = match.end()
            yield from self._handle(match)
        self._rest = data[at:]

    @property
    def line(self) -> str:
        """What stands on the line that has not ended: a prompt, mostly."""
        return _to_printable(bytes(self._line))

    def _handle(self, match: re.Match[bytes]) -> Iterator[str]:
        match match.lastgroup:
            case "newline":
                yield self._end_line()
            case "return":
                self._returned = True
            case "final" if match["final"][0] in _MOVES:
                if self._line:
                    yield self._end_line()
            case "back":
                del self._line[-1:]
            case "text" | "tab":
                # A line that goes back to its start is written over: a progress bar.
                if self._returned:
                    self._line.clear()
                self._returned = False
                text = match["text"] or b" "
                self._line += text[: max(0, _LONGEST - len(self._line))]
            case _:
                pass

    def _end_line(self) -> str:
        line = self.line
        self._line.clear()
        self._returned = False
        return line


def _to_printable(line: bytes) -> str:
    """Text of a line; what is not UTF-8 or not printable is escaped."""
    text = line.decode("utf-8", "backslashreplace").rstrip()
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
