"""The program: what `ltsp` and `python -m ltsp` run, and the one place that exits.

Applets are imported when they are called for, and only after the priority was lowered: that starts the program anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, assert_never

from ltsp.cli import signals, streams
from ltsp.errors import LtspError, UsageError
from ltsp.version import VERSION

if TYPE_CHECKING:
    from ltsp.cli.command_line import Run


def main() -> NoReturn:
    streams.stand_in()
    signals.listen()
    status = run(sys.argv[1:], os.environ)
    signals.stop_listening()
    sys.exit(status)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what a command line asks for, and return the exit status."""
    status = _done(arguments, environ)
    if priority := sys.modules.get("ltsp.host.priority"):  # imported only where it may have been lowered
        priority.ended_with(status)
    return status


def _done(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    try:
        return _asked(arguments, environ)
    except signals.Ended as ended:
        return ended.exit_status
    except Exception as error:  # the edge: a person gets a line, whatever happened
        from ltsp.report.internal_error import told  # noqa: PLC0415 -- seldom needed

        return _complain(told(error))


def _asked(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    if list(arguments) in (["--version"], ["-V"]):  # as scripts ask, for whom no option need be declared
        return _say_version()
    from ltsp.cli.command_line import Help, Run, Version, parse  # noqa: PLC0415 -- see above

    match parse(arguments, environ):
        case Help(applet=applet):
            from ltsp.cli import help  # noqa: A004, PLC0415 -- seldom needed

            streams.write(sys.stdout, help.text(applet))
            return 0
        case Version():
            return _say_version()
        case Run() as asked:
            return _run(asked)
        case never:
            assert_never(never)


def _say_version() -> int:
    streams.write(sys.stdout, f"ltsp {VERSION}\n")
    return 0


def _run(asked: Run) -> int:
    from ltsp.cli import applets  # noqa: PLC0415 -- see above
    from ltsp.host import priority  # noqa: PLC0415 -- likewise
    from ltsp.settings.applets import ImageOptions  # noqa: PLC0415 -- likewise

    if isinstance(asked.options, ImageOptions) and not (asked.options.revert or asked.options.dry_run):
        done = priority.lower(asked.options.ionice)
        if done is not None:
            return done
    from ltsp.cli.console import console  # noqa: PLC0415 -- after the priority was lowered

    with console(asked) as report:
        for warning in asked.warnings:
            report.warn(warning)
        return applets.run(asked, report)


def _complain(error: LtspError) -> int:
    from ltsp.cli.screen import safe  # noqa: PLC0415 -- seldom needed

    usage = "usage: " if isinstance(error, UsageError) else ""
    with suppress(LtspError, signals.Ended):  # the exit status is all that is left to tell it by
        streams.write(sys.stderr, safe(f"ltsp: {usage}{error}") + "\n")
    return error.exit_status
