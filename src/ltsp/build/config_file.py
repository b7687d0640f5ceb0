"""Configuration files that applets write: replaced durably, and only if their text changes."""

from __future__ import annotations

import difflib
import os

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.report.report import Report
from ltsp.tree.name import printable

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644


def write(path: str, text: str, report: Report, *, overwrite: bool, dry_run: bool) -> bool:
    """Write the file if its text changed; a dry run only shows the change. Returns whether it was written.

    Raises LtspError if it cannot be written.
    """
    shown = printable(path)
    try:
        old = _read(path)
    except OSError as error:
        raise LtspError(f"cannot read {shown}: {error.strerror}") from error
    if old == text:
        report.say(f"unchanged {shown}")
        return False
    if old is not None and not overwrite:
        report.say(f"kept {shown} because of --overwrite=0; the generated file would differ")
        return False
    if dry_run:
        _show(shown, old, text, report)
        return False
    try:
        files.make_directories(os.path.dirname(path), _DIRECTORY_MODE)
        files.replace(path, text.encode(), _FILE_MODE)
    except OSError as error:
        raise LtspError(f"cannot write {shown}: {error.strerror}", "run as root") from error
    report.say(f"wrote {shown}" if old is None else f"replaced {shown}")
    return True


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _show(path: str, old: str | None, text: str, report: Report) -> None:
    """Show the text of a new file, or the changes to an existing one."""
    if old is None:
        report.say(f"would write {path}:")
        lines = text.splitlines()
    else:
        report.say(f"would replace {path}:")
        lines = list(difflib.unified_diff(old.splitlines(), text.splitlines(), path, path, lineterm=""))
    for line in lines:
        report.say(printable(line))
