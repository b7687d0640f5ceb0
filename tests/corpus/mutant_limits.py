"""Limits for a process that reads mutants; a mutant that exceeds them is kept."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = 512 << 20
SECONDS = 5.0
"""Of CPU time: the machine may have other things to do."""


def limit() -> None:
    """From now on, no more than that beyond what is taken already."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    signal.signal(signal.SIGPROF, _too_late)


@contextmanager
def in_time(keep: Callable[[], str]) -> Iterator[None]:
    """`keep` writes down what broke the promise, and says what that was."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    except BaseException:
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stderr.write(f"{keep()}\n")
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_late(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")
