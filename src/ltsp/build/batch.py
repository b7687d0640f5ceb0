"""Several images in one run: if one fails, the others are still made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ltsp.report.internal_error import to_ltsp_error
from ltsp.report.report import Report

_SEVERITY = (0, 3, 75, 1, 2)
"""Exit statuses, the worst last."""


def run_each(arguments: Sequence[str], report: Report, do: Callable[[str], int]) -> int:
    """Process each argument, report each failure, and return the worst exit status.

    With a single argument, its error is raised instead.
    """
    worst = 0
    for argument in arguments:
        try:
            status = do(argument)
        except Exception as error:  # an internal error with one image does not concern the others
            if len(arguments) == 1:
                raise
            failure = to_ltsp_error(error)
            report.failure(failure)
            status = failure.exit_status
        worst = max(worst, status, key=_SEVERITY.index)
    return worst
