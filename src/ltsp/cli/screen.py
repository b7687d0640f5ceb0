"""Text on standard output and standard error: sanitized, and with colour only if the terminal supports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from ltsp.cli.process import write_text
from ltsp.tree.name import printable

_YELLOW, _RED, _PLAIN = "\x1b[33m", "\x1b[31m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Screen:
    """The destinations of lines: results go to `out`, all others to `err`."""

    out: TextIO
    err: TextIO
    colour: bool = False
    """Whether warnings and failures on `err` are coloured."""

    def print_result(self, text: str) -> None:
        write_text(self.out, sanitize(text) + "\n")

    def print_note(self, text: str) -> None:
        write_text(self.err, sanitize(text) + "\n")

    def print_warning(self, text: str) -> None:
        self._write_marked("warning: ", _YELLOW, text)

    def print_error(self, text: str) -> None:
        self._write_marked("ltsp: ", _RED, text)

    def _write_marked(self, mark: str, colour: str, text: str) -> None:
        mark = f"{colour}{mark}{_PLAIN}" if self.colour else mark
        write_text(self.err, mark + sanitize(text) + "\n")


def sanitize(text: str) -> str:
    """One line without control characters.

    This escapes what did not pass through `printable`, and leaves what did unchanged.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else printable(character) for character in text)


def supports_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to use colour on a stream: a terminal that is not dumb, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines; the last column is not padded."""
    table = [list(map(sanitize, row)) for row in (headings, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _width(text: str) -> int:
    """Width in columns of a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 -- most text is ASCII

    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
