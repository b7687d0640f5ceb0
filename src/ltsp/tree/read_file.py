"""Files that are read as a whole because a rule needs to see what is in them: settings, accounts, headers."""

from __future__ import annotations

from ltsp.errors import FormatError
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import File

_TRIES = 4


def read_small_file(file: File, path: str, most: int, faults: Faults | None = None) -> bytes:
    """All bytes of a file, read again where it changed meanwhile, and noted if it never holds still.

    An unreadable file is empty if `faults` lets it be skipped. Raises FormatError where it is damaged or larger than
    `most` bytes, OSError (FileUnreadable, with faults) and FileVanished as reading does.
    """
    data = b""
    for _ in range(_TRIES):
        try:
            with file.content.open() as stream:
                data = stream.read(most + 1)
                settled = stream.is_consistent()
        except OSError as error:
            if faults is None:
                raise
            faults.note_unreadable(path, error)
            return b""
        except FormatError as error:
            (faults or Faults()).note_damaged(path, error)
            return b""
        if len(data) > most:
            raise FormatError(f"/{printable(path)} is larger than {most >> 20} MiB, which is too large for this file")
        if settled:
            return data
    if faults is not None:
        faults.note_changed(path)
    return data
