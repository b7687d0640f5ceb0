"""The program that `ltsp` and `python -m ltsp` run, and the only module that exits.

Applets are imported when they are called, and only after the priority was lowered, which restarts the program.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ltsp.cli import process
from ltsp.errors import LtspError, UsageError
from ltsp.version import VERSION

if TYPE_CHECKING:
    from ltsp.cli.invocation import Invocation


def main() -> NoReturn:
    process.open_missing_streams()
    process.install_handlers()
    status = run(sys.argv[1:], os.environ)
    process.remove_handlers()
    gc.freeze()  # the interpreter would look for cycles once more as it ends
    sys.exit(status)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command line, and return the exit status."""
    status = _run_and_report(arguments, environ)
    if priority := sys.modules.get("ltsp.host.priority"):  # imported only if it may have been lowered
        priority.report_exit_status(status)
    return status


def _run_and_report(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    try:
        return _dispatch(arguments, environ)
    except process.SignalReceived as ended:
        return ended.exit_status
    except Exception as error:  # the edge: every error becomes one line
        from ltsp.report.internal_error import to_ltsp_error  # noqa: PLC0415 -- rarely needed

        return _print_error(to_ltsp_error(error))


def _dispatch(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    if list(arguments) in (["--version"], ["-V"]):  # fast path for scripts
        return _print_version()
    from ltsp.cli.command_line import HelpRequest, VersionRequest, parse_command_line  # noqa: PLC0415 -- see above

    match parse_command_line(arguments, environ):
        case HelpRequest(applet=applet):
            from ltsp.cli import help  # noqa: A004, PLC0415 -- rarely needed

            process.write_text(sys.stdout, help.format_help(applet))
            return 0
        case VersionRequest():
            return _print_version()
        case invocation:
            return _run_applet(invocation)


def _print_version() -> int:
    process.write_text(sys.stdout, f"ltsp {VERSION}\n")
    return 0


def _run_applet(invocation: Invocation) -> int:
    from ltsp.cli import dispatch  # noqa: PLC0415 -- see above

    if invocation.applet == "image":
        from ltsp.host import priority  # noqa: PLC0415 -- only builds need it
        from ltsp.settings.image_options import ImageOptions  # noqa: PLC0415 -- likewise

        options = invocation.options_as(ImageOptions)
        done = priority.rerun_at_lower_priority(options.ionice) if options.builds else None
        if done is not None:
            return done
    from ltsp.cli.console import open_report  # noqa: PLC0415 -- after the priority was lowered

    with open_report(invocation) as report:
        for warning in invocation.warnings:
            report.warn(warning)
        return dispatch.run(invocation, report)


def _print_error(error: LtspError) -> int:
    from ltsp.cli.screen import sanitize  # noqa: PLC0415 -- rarely needed

    usage = "usage: " if isinstance(error, UsageError) else ""
    with suppress(LtspError, process.SignalReceived):  # then only the exit status reports the error
        process.write_text(sys.stderr, sanitize(f"ltsp: {usage}{error}") + "\n")
    return error.exit_status
