"""Read an archive from start to end, keeping the data of members for later.

In a seekable file, data is skipped; from a pipe, it is copied into the spool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ltsp.archive.spool import Spool
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

_MOST_BEHIND = 64 << 20
"""Bytes after the end of an archive: some writers pad to whole records."""


class ArchiveInput(Protocol):
    @property
    def at(self) -> int:
        """Current position in bytes."""
        ...

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; fewer only at the end."""
        ...

    def keep(self, size: int) -> tuple[Blocks, int]:
        """Skip `size` bytes; return blocks and offset where they can be read later.

        Raises FormatError if there are fewer.
        """
        ...

    def drain(self) -> None:
        """Skip the rest."""
        ...


class SeekableInput:
    """Input from bytes that can be read at any offset."""

    def __init__(self, stored: Blocks) -> None:
        self._stored = stored
        self.at = 0

    def read(self, size: int) -> bytes:
        piece = self._stored.read_at(self.at, size)
        self.at += len(piece)
        return piece

    def keep(self, size: int) -> tuple[Blocks, int]:
        place = self.at
        if place + size > self._stored.size:
            raise truncated_error()
        self.at += size
        return self._stored, place

    def drain(self) -> None:
        """Nothing to do: no writer waits for the rest to be read."""


class PipeInput:
    """Input from a pipe, in pieces."""

    def __init__(self, pieces: Iterator[bytes], spool: Spool) -> None:
        self._pieces = pieces
        self._spool = spool
        self._piece = memoryview(b"")
        self.at = 0

    def read(self, size: int) -> bytes:
        data = bytes(self._read_some(size))
        while len(data) < size and (more := self._read_some(size - len(data))):
            data += more
        return data

    def keep(self, size: int) -> tuple[Blocks, int]:
        place = self._spool.size
        while size:
            piece = self._read_some(size)
            if not piece:
                raise truncated_error()
            self._spool.append(piece)
            size -= len(piece)
        return self._spool, place

    def drain(self) -> None:
        """Read the rest: the writer waits for that, and checksums come last.

        Raises FormatError if there is too much.
        """
        self._piece = memoryview(b"")
        left = _MOST_BEHIND
        for piece in self._pieces:
            left -= len(piece)
            if left < 0:
                raise FormatError(f"has more than {_MOST_BEHIND >> 20} MiB of trailing data")

    def _read_some(self, limit: int) -> memoryview:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return memoryview(b"")
            self._piece = memoryview(piece)
        some, self._piece = self._piece[:limit], self._piece[limit:]
        self.at += len(some)
        return some


def truncated_error() -> FormatError:
    return FormatError("is truncated: it ends within a file", "copy it again, or recreate it")
