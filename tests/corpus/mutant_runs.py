"""Runs of a reader over mutants of its input, in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_TESTS = Path(__file__).parent.parent
_SOURCE = _TESTS.parent / "src"
_PROCESSES = 2


def survive(
    program: str,
    seeds: Sequence[Path | str],
    seed: int,
    count: int,
    scratch: Path,
    more: Callable[[int], Sequence[str]] = lambda _run: (),
) -> dict[str, int]:
    """Fates of so many mutants of the seeds, in processes that may take 512 MiB more than an idle one.

    `program` is called with a number, how many, what `more` gives for the run (0 or 1), and the seeds; it prints the
    fates as JSON.
    """
    runs = [
        subprocess.Popen(
            [sys.executable, program, str(seed + run), str(count // _PROCESSES), *more(run), *seeds],
            env={**os.environ, "PYTHONPATH": f"{_SOURCE}:{_TESTS}"},
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in range(_PROCESSES)
    ]
    total: dict[str, int] = {}
    for run in runs:
        output, errors = run.communicate()
        assert run.returncode == 0, errors
        for fate, number in json.loads(output).items():
            total[fate] = total.get(fate, 0) + number
    return total
