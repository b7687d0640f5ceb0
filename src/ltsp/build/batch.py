"""Several images in one run: one that fails does not keep the others from being made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ltsp.report.internal_error import to_ltsp_error
from ltsp.report.report import Report

_SEVERITY = (0, 3, 75, 1, 2)
"""Exit statuses, the worst last."""


def run_each(arguments: Sequence[str], report: Report, do: Callable[[str], int]) -> int:
    """Try each argument, tell of each failure, and return the worst exit status.

    Raises what a single argument raises.
    """
    worst = 0
    for argument in arguments:
        try:
            status = do(argument)
        except Exception as error:  # what nobody foresaw of one image is no fault of the others
            if len(arguments) == 1:
                raise
            failure = to_ltsp_error(error)
            report.failure(failure)
            status = failure.exit_status
        worst = max(worst, status, key=_SEVERITY.index)
    return worst
