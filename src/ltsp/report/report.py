"""What an applet tells the person who waits for it. The console implements it; a test may as well.

Every text is one line, and names in it went through `printable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ltsp.errors import LtspError


class ProgressStep(Protocol):
    """A piece of work that takes a while."""

    def advance(self, amount: int) -> None:
        """Count so many more bytes as done. May be called from any thread."""
        ...


class Report(Protocol):
    def step(self, title: str, total: int | None = None) -> AbstractContextManager[ProgressStep]:
        """Begin a piece of work of `total` bytes; None where that is not known. The block's end is its end."""
        ...

    def note(self, text: str) -> None:
        """Say something by the way, which --quiet leaves out."""
        ...

    def warn(self, text: str) -> None:
        """Say something that the reader should act on or know."""
        ...

    def failure(self, error: LtspError) -> None:
        """Tell of one image that failed while others are still to be made."""
        ...

    def say(self, text: str) -> None:
        """Print a line of what was asked for: the plan, the summary."""
        ...

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of what was asked for under headings."""
        ...

    def result(self, facts: Mapping[str, object]) -> None:
        """Give the outcome as data: what JSON readers get instead of the lines of the summary."""
        ...
