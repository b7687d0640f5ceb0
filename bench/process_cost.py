"""Measure a program from start to end: time, CPU time and memory, as counted by the kernel."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One run, including child processes."""

    seconds: float
    processor: float
    """CPU seconds, user and system."""
    peak: int
    """Bytes of the largest process. getrusage(2), ru_maxrss"""
    size: int = 0
    """Size of the image in bytes."""

    @classmethod
    def median(cls, runs: Sequence[Run]) -> Run:
        """The median of each value; the largest memory and the last size."""
        return cls(
            statistics.median(run.seconds for run in runs),
            statistics.median(run.processor for run in runs),
            max(run.peak for run in runs),
            runs[-1].size,
        )


def run(command: Sequence[str]) -> Run:
    """Run a command and measure it.

    Raises SystemExit with the last lines of its output if it fails: there is nothing to measure.
    """
    with tempfile.TemporaryFile("w+", errors="backslashreplace") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            tail = "".join(output.readlines()[-15:])
            sys.exit(f"{shlex.join(command)}\n{tail}failed with status {process.returncode}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
