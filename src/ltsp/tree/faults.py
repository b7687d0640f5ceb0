"""Read files of a source, collect the errors of single files, and decide whether to continue.

A live system changes while it is read. Such files are collected here and listed at the end: exit status 3.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from ltsp.errors import FileUnreadable, FormatError, ReaderFailed
from ltsp.tree.name import printable
from ltsp.tree.node import File

_RESOURCE_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of a resource limit: the file may be readable next time."""


@dataclass(slots=True)
class Faults:
    """Paths relative to the root of the tree, by error."""

    skip_unreadable: bool = False
    changed: list[str] = field(default_factory=list)
    """Stored, but possibly not one consistent version."""
    vanished: list[str] = field(default_factory=list)
    """Gone, and so not in the image."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Skipped on request: path and reason."""

    def note_changed(self, path: str) -> None:
        self.changed.append(path)

    def note_vanished(self, path: str) -> None:
        self.vanished.append(path)

    def note_unreadable(self, path: str, error: OSError) -> None:
        """Skip the file, if requested.

        Raises FileUnreadable if not, or if a resource limit is the reason.
        """
        reason = error.strerror or str(error)
        if not self.skip_unreadable or error.errno in _RESOURCE_ERRNOS:
            raise FileUnreadable(
                f"cannot read /{printable(path)}: {reason}",
                "nothing was published; run as root, exclude it, or give --skip-unreadable",
            ) from error
        self._leave_out(path, reason)

    def note_damaged(self, path: str, error: FormatError) -> None:
        """Skip a file that is damaged in an image or disk, if requested.

        Raises FormatError with the path if not, and always ReaderFailed, which is not an error of the file.
        """
        if isinstance(error, ReaderFailed):
            raise error
        if not self.skip_unreadable:
            hint = error.hint or "restore it on its own system, exclude it, or give --skip-unreadable"
            raise FormatError(f"cannot read /{printable(path)}: {error.message}", hint) from error
        self._leave_out(path, error.message)

    def _leave_out(self, path: str, reason: str) -> None:
        if (path, reason) not in self.unreadable:  # rules read a file before it is written
            self.unreadable.append((path, reason))

    def __bool__(self) -> bool:
        return bool(self.changed or self.vanished or self.unreadable)


_MAX_READS = 4


def read_small_file(file: File, path: str, limit: int, faults: Faults | None = None) -> bytes:
    """All bytes of a file, read again if it changed meanwhile, and recorded in `faults` if it keeps changing.

    An unreadable file counts as empty if `faults` allows skipping it. Raises FormatError if it is damaged or larger
    than `limit` bytes, OSError (FileUnreadable, with faults) and FileVanished like reading.
    """
    data = b""
    for _ in range(_MAX_READS):
        try:
            with file.content.open() as stream:
                data = stream.read(limit + 1)
                settled = stream.is_consistent()
        except OSError as error:
            if faults is None:
                raise
            faults.note_unreadable(path, error)
            return b""
        except FormatError as error:
            (faults or Faults()).note_damaged(path, error)
            return b""
        if len(data) > limit:
            raise FormatError(f"/{printable(path)} is larger than {limit >> 20} MiB, the limit for this file")
        if settled:
            return data
    if faults is not None:
        faults.note_changed(path)
    return data
