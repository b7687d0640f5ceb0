"""The errors that a person reads; everything else that is raised is a fault of ours.

LtspError                 1   something asked for could not be done
├── UsageError            2   the command line or a setting is wrong; nothing was begun
├── ConfError             1   ltsp.conf cannot be taken as it stands
├── FollowUpFailed        3   clients have what is new, and something that follows from it could not be done
├── LockHeld             75   another process has what we need
├── FormatError           1   an image, disk or archive is damaged, truncated or forged
│   └── ReaderFailed          the process that reads it is gone, or says what makes no sense
└── SourceError           1   the source cannot be read as it should be
    ├── FileUnreadable        a file or directory that no rule leaves out cannot be read
    ├── FileChanged           a file was another one after reading than before
    └── FileVanished          a file or directory is gone since the scan

The number is the exit status. Only `ltsp.cli.main` exits.
"""

from __future__ import annotations


class LtspError(Exception):
    """A failure with its cause in one line, and a hint that says what to type or do."""

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.hint}" if self.hint else self.message


class UsageError(LtspError):
    """The command line or a setting is wrong; nothing was begun."""

    exit_status = 2


class ConfError(LtspError):
    """ltsp.conf cannot be taken as it stands; the message names file and line."""


class FollowUpFailed(LtspError):
    """Clients have what is new, and something that follows from it could not be done."""

    exit_status = 3


class LockHeld(LtspError):
    """Another process holds a lock; the message names it."""

    exit_status = 75


class ProgramTimeout(LtspError):
    """A program had not ended after the time that it was given."""


class FormatError(LtspError):
    """An image, disk or archive is damaged, truncated or forged."""


class ReaderFailed(FormatError):
    """The process that reads it is gone, or says what makes no sense. The message does not name what was read."""


class SourceError(LtspError):
    """The source cannot be read as it should be."""


class FileUnreadable(SourceError):
    """A file or directory that no rule leaves out cannot be read."""


class FileChanged(SourceError):
    """A file was another one after reading than before."""


class FileVanished(SourceError):
    """A file or directory is gone since the scan."""
