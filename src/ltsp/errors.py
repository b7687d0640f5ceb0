"""The errors that users see; any other exception is an internal error.

LtspError                 1   the request could not be carried out
├── UsageError            2   the command line or a setting is wrong; nothing was done
├── ConfError             1   ltsp.conf is invalid
├── FollowUpFailed        3   clients have the new version, but a step after that failed
├── LockHeld             75   another process holds a lock
├── FormatError           1   an image, disk or archive is damaged, truncated or forged
│   └── ReaderFailed          the reader process died, or its reply is invalid
└── SourceError           1   the source cannot be read properly
    ├── FileUnreadable        a file or directory that no rule excludes cannot be read
    ├── FileChanged           a file changed while it was being read
    └── FileVanished          a file or directory vanished after the scan

The number is the exit status. Only `ltsp.cli.main` exits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LtspError(Exception):
    """A failure: its cause in one line, and a hint that says what to type or do."""

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class UsageError(LtspError):
    """The command line or a setting is wrong; nothing was done."""

    exit_status = 2


class ConfError(LtspError):
    """ltsp.conf is invalid; the message names file and line."""


class FollowUpFailed(LtspError):
    """Clients have the new version, but a step after that failed."""

    exit_status = 3


class LockHeld(LtspError):
    """Another process holds a lock; the message names it."""

    exit_status = 75


class ProgramTimeout(LtspError):
    """A program did not finish within its time limit."""


class FormatError(LtspError):
    """An image, disk or archive is damaged, truncated or forged."""


class ReaderFailed(FormatError):
    """The reader process died, or its reply is invalid. The message does not name what was read."""


class SourceError(LtspError):
    """The source cannot be read properly."""


class FileUnreadable(SourceError):
    """A file or directory that no rule excludes cannot be read."""


class FileChanged(SourceError):
    """A file changed while it was being read."""


class FileVanished(SourceError):
    """A file or directory vanished after the scan."""


@contextmanager
def require_library(purpose: str, library: str, extra: str, alternative: str = "") -> Iterator[None]:
    """Wraps the import of an extra's library; `purpose` is what needs it.

    Raises LtspError if it is not installed; the hint says how to install it, or what else to do.
    """
    try:
        yield
    except ImportError as error:
        hint = f"pipx inject ltsp {library}, or pip install 'ltsp[{extra}]'"
        raise LtspError(
            f"{purpose} needs the Python package {library}: {error}", f"{hint}; {alternative}" if alternative else hint
        ) from error
