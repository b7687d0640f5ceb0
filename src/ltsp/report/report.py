"""The interface through which applets report to the user. The console implements it, and so do tests.

Each text is one line, and names in it have been passed through `printable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ltsp.errors import LtspError


class ProgressStep(Protocol):
    """A long-running piece of work."""

    def advance(self, amount: int) -> None:
        """Add `amount` bytes to the work done. May be called from any thread."""
        ...


class Report(Protocol):
    def step(self, title: str, total: int | None = None) -> AbstractContextManager[ProgressStep]:
        """Start a piece of work of `total` bytes (None if unknown), which lasts as long as the block."""
        ...

    def note(self, text: str) -> None:
        """Print a line that --quiet suppresses."""
        ...

    def warn(self, text: str) -> None:
        """Print a warning."""
        ...

    def failure(self, error: LtspError) -> None:
        """Report an image that failed while others are still to be made."""
        ...

    def say(self, text: str) -> None:
        """Print a line of the result: the plan, the summary."""
        ...

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of the result."""
        ...

    def result(self, facts: Mapping[str, object]) -> None:
        """Give the result as data: the JSON output, which replaces the lines of the summary."""
        ...
