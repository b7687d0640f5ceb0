"""Read small files as a whole, for rules that need their contents: settings, accounts, headers."""

from __future__ import annotations

from ltsp.errors import FormatError
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import File

_TRIES = 4


def read_small_file(file: File, path: str, most: int, faults: Faults | None = None) -> bytes:
    """All bytes of a file, read again if it changed meanwhile, and recorded in `faults` if it keeps changing.

    An unreadable file counts as empty if `faults` allows skipping it. Raises FormatError if it is damaged or larger
    than `most` bytes, OSError (FileUnreadable, with faults) and FileVanished like reading.
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
