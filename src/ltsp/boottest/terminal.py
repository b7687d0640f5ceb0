"""Turning the bytes of a serial console into lines of plain text; control sequences are dropped, never obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_MAX_LINE_SIZE = 1 << 16
"""Maximum bytes of a line. A guest that writes without end must not fill the memory."""

_TOKEN = re.compile(
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
"""Control sequences of ECMA-48: CSI, strings that end with BEL or ST, charset selections, single functions."""

_LINE_CHANGING_CODES = frozenset(b"HfABEFJd")
"""Final bytes of CSI sequences that move to another line or clear the screen: a new line follows."""
_MAX_SEQUENCE_SIZE = 256
"""Bytes. A longer escape sequence is noise, and dropped."""


class Terminal:
    """Fed with bytes in any pieces; yields lines as they end, and keeps the unfinished one."""

    __slots__ = ("_has_carriage_return", "_line", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._line = bytearray()
        self._has_carriage_return = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end in these bytes, safe to print."""
        data = self._rest + data
        at = 0
        while at < len(data):
            match = _TOKEN.match(data, at)
            if match is None:
                if data[at] == 0x1B and len(data) - at < _MAX_SEQUENCE_SIZE and b"\n" not in data[at:]:
                    break
                at += 1
                continue
            at = match.end()
            yield from self._handle_token(match)
        self._rest = data[at:]

    @property
    def line(self) -> str:
        """The unfinished line, usually a prompt."""
        return _to_printable(bytes(self._line))

    def _handle_token(self, match: re.Match[bytes]) -> Iterator[str]:
        match match.lastgroup:
            case "newline":
                yield self._end_line()
            case "return":
                self._has_carriage_return = True
            case "final" if match["final"][0] in _LINE_CHANGING_CODES:
                if self._line:
                    yield self._end_line()
            case "back":
                del self._line[-1:]
            case "text" | "tab":
                # Text after a carriage return overwrites the line: a progress bar.
                if self._has_carriage_return:
                    self._line.clear()
                self._has_carriage_return = False
                text = match["text"] or b" "
                self._line += text[: max(0, _MAX_LINE_SIZE - len(self._line))]
            case _:
                pass

    def _end_line(self) -> str:
        line = self.line
        self._line.clear()
        self._has_carriage_return = False
        return line


def _to_printable(line: bytes) -> str:
    """Text of a line; bytes that are not UTF-8 and unprintable characters are escaped."""
    text = line.decode("utf-8", "backslashreplace").rstrip()
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
