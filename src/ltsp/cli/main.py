"""The program: what `ltsp` and `python -m ltsp` run, and the one place that exits.

Applets are imported when they are called for, and only after the priority was lowered: that starts the program anew.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from types import FrameType
from typing import NoReturn, assert_never

from ltsp.cli.command_line import Help, Run, Version, parse
from ltsp.errors import LtspError, UsageError
from ltsp.host import priority
from ltsp.settings.applets import ImageOptions, InfoOptions, KernelOptions, VersionsOptions
from ltsp.settings.conf_file import PATH, VARIABLE

_SIGNALLED = 128
"""Exit status of a program that a signal ended, less the signal's number. POSIX.1-2017, sh, 2.8.2"""


class _Terminated(BaseException):
    """SIGTERM or SIGHUP: the work is undone on the way up, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_status = _SIGNALLED + number


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what a command line asks for, and return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    try:
        match parse(arguments, environ):
            case Help(applet=applet):
                from ltsp.cli import help  # noqa: A004, PLC0415 -- seldom needed

                sys.stdout.write(help.text(applet))
                return 0
            case Version():
                sys.stdout.write(f"ltsp {metadata.version('ltsp')}\n")
                return 0
            case Run() as asked:
                return _run(asked, environ)
            case never:
                assert_never(never)
    except LtspError as error:
        _complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT
    except _Terminated as terminated:
        return terminated.exit_status
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGNALLED + signal.SIGPIPE


def _run(asked: Run, environ: Mapping[str, str]) -> int:
    if isinstance(asked.options, ImageOptions) and not (asked.options.revert or asked.options.dry_run):
        priority.lower(asked.options.ionice)
    # A tree is a million objects that live to the end, and looking for cycles among them finds none.
    gc.disable()
    from ltsp.cli.console import console  # noqa: PLC0415 -- after the priority was lowered

    with console(asked) as report:
        for warning in asked.warnings:
            report.warn(warning)
        match asked.options:
            case ImageOptions() as options:
                from ltsp.apps.image import image  # noqa: PLC0415

                directory = os.path.dirname(environ.get(VARIABLE) or PATH)
                return image(asked.operands, options, asked.ltsp, directory, report)
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


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated(number)


def _complain(error: LtspError) -> None:
    hint = f": {error.hint}" if error.hint else ""
    usage = "usage: " if isinstance(error, UsageError) else ""
    sys.stderr.write(f"ltsp: {usage}{error.message}{hint}\n")
