"""Progress for people: a bar on a terminal, occasional lines elsewhere, or nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ltsp.cli.screen import Screen, sanitize
from ltsp.report import units

if TYPE_CHECKING:
    from rich.progress import Progress

Clock = Callable[[], float]
LINE_INTERVAL = 5.0
"""Between two lines about the same step."""
_BAR_INTERVAL = 0.1
_MIN_RATE_TIME = 1.0
"""The time after which a rate is meaningful."""


@dataclass(slots=True)
class Counter:
    """The progress of a step. Threads may advance it; `notify` is called by one at a time, at most every `interval`."""

    total: int | None
    notify: Callable[[Counter], None]
    interval: float
    """Between two calls of `notify`."""
    clock: Clock = time.monotonic
    done: int = 0
    start_time: float = field(init=False)
    _next: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.start_time = self.clock()
        self._next = self.start_time + self.interval

    def advance(self, amount: int) -> None:
        with self._lock:
            self.done += amount
            now = self.clock()
            if now >= self._next:
                self._next = now + self.interval
                self.notify(self)

    @property
    def elapsed(self) -> float:
        return self.clock() - self.start_time

    @property
    def rate(self) -> float | None:
        """Bytes per second; None while that would be a guess."""
        return self.done / self.elapsed if self.done and self.elapsed >= _MIN_RATE_TIME else None

    @property
    def percent(self) -> int | None:
        return min(100, self.done * 100 // self.total) if self.total else None

    def state(self) -> str:
        """`45 %, 194 MiB of 433 MiB, 78 MiB/s, 3 s left`."""
        done, rate = units.format_size(self.done), self.rate
        parts = [done] if not self.total else [f"{self.percent} %", f"{done} of {units.format_size(self.total)}"]
        if rate is not None:
            parts.append(f"{units.format_size(round(rate))}/s")
            if self.total and self.done < self.total:
                parts.append(f"{format_duration((self.total - self.done) / rate)} left")
        return ", ".join(parts)

    def format_outcome(self) -> str:
        """`433 MiB in 5.5 s`."""
        took = format_duration(self.elapsed)
        return f"{units.format_size(self.done)} in {took}" if self.done else took


def format_duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 1 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class ProgressDisplay(Protocol):
    """A way to show steps."""

    def step(self, title: str, total: int | None) -> AbstractContextManager[Counter]: ...

    def pause(self) -> AbstractContextManager[None]:
        """Hide the progress while a line is printed."""
        ...


class NoProgress:
    """Steps that are not shown."""

    @contextmanager
    def step(self, _title: str, total: int | None) -> Iterator[Counter]:
        yield Counter(total, lambda _counter: None, float("inf"))

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, slots=True)
class ProgressLines:
    """A line when a step is done, and one every few seconds during a long step."""

    screen: Screen
    clock: Clock = time.monotonic

    @contextmanager
    def step(self, title: str, total: int | None) -> Iterator[Counter]:
        def notify(counter: Counter) -> None:
            self.screen.print_note(f"{title}: {counter.state()}")

        counter = Counter(total, notify, LINE_INTERVAL, self.clock)
        yield counter
        self.screen.print_note(f"{title}: {counter.format_outcome()}")

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, slots=True)
class PercentLines:
    """Whole percentages, a line each, for `dialog --gauge`: -percentage of mksquashfs."""

    screen: Screen

    @contextmanager
    def step(self, _title: str, total: int | None) -> Iterator[Counter]:
        last = -1

        def notify(counter: Counter) -> None:
            nonlocal last
            if counter.percent is not None and counter.percent > last:
                last = counter.percent
                self.screen.print_result(str(last))

        yield Counter(total, notify, 0)

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()


class ProgressBar:
    """A bar with bytes, rate and time left, on a terminal; a line replaces it when the step is done.

    The thread that advances the step draws it, at most ten times a second: a thread of its own would interfere with
    forks and signals.
    """

    def __init__(self, screen: Screen, *, colour: bool) -> None:
        self._screen = screen
        self._colour = colour
        self._progress: Progress | None = None

    @contextmanager
    def step(self, title: str, total: int | None) -> Iterator[Counter]:
        outer = self._progress
        progress = self._progress = outer or self._make_progress()
        shown = sanitize(title)
        task = progress.add_task(shown, total=total, state="")

        def notify(counter: Counter) -> None:
            progress.update(task, completed=counter.done, state=counter.state(), refresh=True)

        counter = Counter(total, notify, _BAR_INTERVAL)
        try:
            if outer is None:
                progress.start()
            progress.refresh()
            yield counter
        finally:
            progress.remove_task(task)
            if outer is None:
                progress.stop()
                self._progress = None
        with self.pause():
            self._screen.print_note(f"{title}: {counter.format_outcome()}")

    @contextmanager
    def pause(self) -> Iterator[None]:
        progress = self._progress
        if progress is None:
            yield
            return
        progress.stop()
        try:
            yield
        finally:
            progress.start()

    def _make_progress(self) -> Progress:
        from rich.console import Console  # noqa: PLC0415 -- slow to import, and only for terminals
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            console=Console(file=self._screen.err, force_terminal=True, no_color=not self._colour),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
