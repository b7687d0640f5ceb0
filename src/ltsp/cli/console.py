"""`Report` as text for people, and as JSON lines for programs.

Results go to standard output, messages and progress to standard error. docs/json.md describes the JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TextIO

from ltsp.cli.invocation import Invocation
from ltsp.cli.process import write_text
from ltsp.cli.progress import Clock, Counter, NoProgress, PercentLines, ProgressBar, ProgressDisplay, ProgressLines
from ltsp.cli.screen import Screen, format_table, supports_colour
from ltsp.errors import LtspError
from ltsp.report.report import Report

_JSON_INTERVAL = 1.0
"""Between two `progress` objects of a step."""


@contextmanager
def open_report(invocation: Invocation, environ: Mapping[str, str] = os.environ) -> Iterator[Report]:
    """The report that a command line asks for, on this process's standard output and standard error."""
    yield make_report(ConsoleOptions.of(invocation), sys.stdout, sys.stderr, environ)


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """How to report a run."""

    progress: str = "auto"
    """auto, bar, plain, percentage, json, none."""
    quiet: bool = False
    json: bool = False
    """Print the result as JSON, and nothing else, to standard output."""

    @classmethod
    def of(cls, invocation: Invocation) -> ConsoleOptions:
        """From the options; mksquashfs's parameters decide if --progress is auto."""
        options = invocation.options
        output_options = cls(
            getattr(options, "progress", "auto"), getattr(options, "quiet", False), getattr(options, "json", False)
        )
        parameters = getattr(options, "mksquashfs_params", ())
        if not parameters:
            return output_options
        from ltsp.mksquashfs.options import parse  # noqa: PLC0415 -- `ltsp info` needs no squashfs

        output = parse(parameters).output
        progress = output_options.progress
        if progress == "auto":
            progress = "none" if output.progress is False else "percentage" if output.percentage else "auto"
        return cls(progress, output_options.quiet or output.quiet, output_options.json)


def make_report(output_options: ConsoleOptions, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> Report:
    if output_options.progress == "json":
        return JsonReport(out, quiet=output_options.quiet)
    screen = Screen(out, err, supports_colour(err, environ))
    return TextReport(
        screen,
        _choose_display(output_options, screen, environ),
        quiet=output_options.quiet,
        result_only=output_options.json,
    )


def _choose_display(output_options: ConsoleOptions, screen: Screen, environ: Mapping[str, str]) -> ProgressDisplay:
    progress = output_options.progress
    if progress == "auto":
        progress = "bar" if screen.err.isatty() and environ.get("TERM", "dumb") != "dumb" else "plain"
    if output_options.quiet or progress == "none":
        return NoProgress()
    if progress == "percentage":
        return PercentLines(screen)
    return ProgressBar(screen, colour=screen.colour) if progress == "bar" else ProgressLines(screen)


@dataclass(frozen=True, slots=True)
class TextReport:
    """Lines for people."""

    screen: Screen
    progress_display: ProgressDisplay
    quiet: bool = False
    result_only: bool = False
    """Standard output has only the result as JSON; other lines go to standard error."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Counter]:
        return self.progress_display.step(title, total)

    def note(self, text: str) -> None:
        if not self.quiet:
            with self.progress_display.pause():
                self.screen.print_note(text)

    def warn(self, text: str) -> None:
        with self.progress_display.pause():
            self.screen.print_warning(text)

    def failure(self, error: LtspError) -> None:
        with self.progress_display.pause():
            self.screen.print_error(str(error))

    def say(self, text: str) -> None:
        if self.result_only:
            self.note(text)
        elif not self.quiet:
            with self.progress_display.pause():
                self.screen.print_result(text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        for line in format_table(headings, rows) if rows else ():
            self.say(line)

    def result(self, facts: Mapping[str, object]) -> None:
        if self.result_only:
            write_text(self.screen.out, json.dumps(facts, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class JsonReport:
    """One object per line, for programs."""

    out: TextIO
    quiet: bool = False
    clock: Clock = time.monotonic

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Counter]:
        def notify(counter: Counter) -> None:
            self._print_unless_quiet(
                "progress", step=title, done=counter.done, total=total, seconds=round(counter.elapsed, 3)
            )

        self._print_unless_quiet("step", step=title, total=total)
        counter = Counter(total, notify, _JSON_INTERVAL, self.clock)
        done = False
        try:
            yield counter
            done = True
        finally:
            self._print_unless_quiet("done", step=title, ok=done, done=counter.done, seconds=round(counter.elapsed, 3))

    def note(self, text: str) -> None:
        self._print_unless_quiet("note", text=text)

    def warn(self, text: str) -> None:
        self._print("warning", text=text)

    def failure(self, error: LtspError) -> None:
        self._print("error", text=error.message, hint=error.hint, status=error.exit_status)

    def say(self, text: str) -> None:
        self._print_unless_quiet("text", text=text)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._print_unless_quiet("table", headings=list(headings), rows=[list(row) for row in rows])

    def result(self, facts: Mapping[str, object]) -> None:
        self._print("result", result=facts)

    def _print_unless_quiet(self, event: str, **facts: object) -> None:
        if not self.quiet:
            self._print(event, **facts)

    def _print(self, event: str, **facts: object) -> None:
        # Plain ASCII, so that neither the locale nor a name in it can break a line.
        write_text(self.out, json.dumps({"event": event, **facts}) + "\n")
