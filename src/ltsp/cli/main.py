"""The program: what `ltsp` and `python -m ltsp` run, and the one place that exits.

Applets are imported when they are called for, and only after the priority was lowered: that starts the program anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn, assert_never

from ltsp.apps.unforeseen import told
from ltsp.cli import signals, streams
from ltsp.cli.command_line import Help, Run, Version, parse
from ltsp.cli.screen import safe
from ltsp.errors import LtspError, UsageError
from ltsp.host import priority
from ltsp.settings.applets import ImageOptions, InfoOptions, KernelOptions, VersionsOptions
from ltsp.settings.conf_file import PATH, VARIABLE


def main() -> NoReturn:
    streams.stand_in()
    signals.listen()
    status = run(sys.argv[1:], os.environ)
    signals.stop_listening()
    sys.exit(status)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what a command line asks for, and return the exit status."""
    try:
        return _asked(arguments, environ)
    except signals.Ended as ended:
        return ended.exit_status
    except Exception as error:  # the edge: a person gets a line, whatever happened
        return _complain(told(error))


def _asked(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    match parse(arguments, environ):
        case Help(applet=applet):
            from ltsp.cli import help  # noqa: A004, PLC0415 -- seldom needed

            streams.write(sys.stdout, help.text(applet))
            return 0
        case Version():
            from importlib import metadata  # noqa: PLC0415 -- it imports half of the library

            streams.write(sys.stdout, f"ltsp {metadata.version('ltsp')}\n")
            return 0
        case Run() as asked:
            return _run(asked, environ)
        case never:
            assert_never(never)


def _run(asked: Run, environ: Mapping[str, str]) -> int:
    if isinstance(asked.options, ImageOptions) and not (asked.options.revert or asked.options.dry_run):
        priority.lower(asked.options.ionice)
    from ltsp.cli.console import console  # noqa: PLC0415 -- after the priority was lowered

    with console(asked) as report:
        for warning in asked.warnings:
            report.warn(warning)
        match asked.options:
            case ImageOptions() as options:
                from ltsp.apps.image import image  # noqa: PLC0415

                directory = os.path.dirname(environ.get(VARIABLE) or PATH)
                return image(asked.operands, options, asked.ltsp, asked.hooks, directory, report)
            case KernelOptions() as options:
                from ltsp.apps.kernel import kernel  # noqa: PLC0415

                return kernel(asked.operands, options, asked.ltsp, report)
            case InfoOptions() as options:
                from ltsp.apps.info import info  # noqa: PLC0415

                info(options, asked.ltsp, report)
            case VersionsOptions() as options:
                from ltsp.apps.versions import versions  # noqa: PLC0415

                versions(asked.operands, options, asked.ltsp, report)
            case never:
                assert_never(never)
    return 0


def _complain(error: LtspError) -> int:
    usage = "usage: " if isinstance(error, UsageError) else ""
    with suppress(LtspError, signals.Ended):  # the exit status is all that is left to tell it by
        streams.write(sys.stderr, safe(f"ltsp: {usage}{error}") + "\n")
    return error.exit_status
