"""Several images in one run: one that fails does not keep the others from being made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ltsp.apps.report import Report
from ltsp.errors import LtspError

_SEVERITY = (0, 3, 75, 1, 2)
"""Exit statuses, the worst last."""


def each(arguments: Sequence[str], report: Report, do: Callable[[str], int]) -> int:
    """Try each argument, tell of each failure, and return the worst exit status.

    Raises what a single argument raises.
    """
    worst = 0
    for argument in arguments:
        try:
            status = do(argument)
        except LtspError as error:
            if len(arguments) == 1:
                raise
            report.failure(error)
            status = error.exit_status
        worst = max(worst, status, key=_SEVERITY.index)
    return worst
