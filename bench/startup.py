"""How long commands take that do little: what counts is how much is imported."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.process_cost import run

ROUNDS = 21
FACTOR = 1.5
MARGIN = 0.06
"""The goal: at most FACTOR times the seconds of a Python that does nothing, and MARGIN seconds."""


@dataclass(frozen=True, slots=True)
class Result:
    command: str
    seconds: float
    bare: float
    """Seconds that `python3 -c pass` takes."""

    @property
    def goal(self) -> float:
        return FACTOR * self.bare + MARGIN

    @property
    def misses(self) -> bool:
        return self.seconds > self.goal


def measure_startup(base: Path, report_progress: Callable[[str], None]) -> Iterator[Result]:
    """Medians of alternating runs; `base` has a published image, whose versions are listed."""
    program = str(Path(sys.executable).with_name("ltsp"))
    commands = {
        "ltsp --version": [program, "--version"],
        "ltsp versions": [program, f"--base-dir={base}", f"--tftp-dir={base}/tftp", "versions"],
    }
    report_progress(f"{', '.join(commands)}: {ROUNDS} times")
    bare: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        bare.append(run([sys.executable, "-c", "pass"]).seconds)
        for name, command in commands.items():
            seconds[name].append(run(command).seconds)
    for name, measured in seconds.items():
        yield Result(name, statistics.median(measured), statistics.median(bare))
