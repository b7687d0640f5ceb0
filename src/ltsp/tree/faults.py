"""What went wrong with single files while a source was read, and whether to go on.

A live system changes under the reader. What a rule cannot decide is gathered here and named at the end: exit status 3.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from ltsp.errors import FileUnreadable, FormatError, ReaderFailed
from ltsp.tree.name import printable

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Next time, with more of it, the file can be read."""


@dataclass(slots=True)
class Faults:
    """Paths, relative to the root of the tree, by what happened to them."""

    skip_unreadable: bool = False
    changed: list[str] = field(default_factory=list)
    """In the image, but maybe not one consistent version."""
    vanished: list[str] = field(default_factory=list)
    """Left out of the image."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Left out of the image on demand: path and reason."""

    def note_changed(self, path: str) -> None:
        self.changed.append(path)

    def note_vanished(self, path: str) -> None:
        self.vanished.append(path)

    def note_unreadable(self, path: str, error: OSError) -> None:
        """Leave the file out, if that was asked for.

        Raises FileUnreadable if not, and where a limit of ours and not the file is why.
        """
        reason = error.strerror or str(error)
        if not self.skip_unreadable or error.errno in _OURS:
            raise FileUnreadable(
                f"cannot read /{printable(path)}: {reason}",
                "nothing was published; run as root, exclude it, or give --skip-unreadable",
            ) from error
        self._leave_out(path, reason)

    def note_damaged(self, path: str, error: FormatError) -> None:
        """Leave out a file whose contents an image or disk does not hold whole, if that was asked for.

        Raises FormatError with the path if not, and ReaderFailed always: that is no fault of the file.
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
