"""An archive as its reader sees it: from start to end, where the data of members are left for later.

Bytes that lie still are only passed over; of those that come once, what is data goes into the spool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ltsp.archive.spool import Spool
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

_MOST_BEHIND = 64 << 20
"""Bytes behind the end of an archive: some writers fill up whole records."""


class ArchiveInput(Protocol):
    @property
    def at(self) -> int:
        """Bytes passed."""
        ...

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; fewer only at the end."""
        ...

    def keep(self, size: int) -> tuple[Blocks, int]:
        """Pass over `size` bytes; where they can be read again.

        Raises FormatError where there are not so many.
        """
        ...

    def drain(self) -> None:
        """Pass over the rest."""
        ...


class SeekableInput:
    """Bytes that lie still."""

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
        """There is nobody who waits for it to be read."""


class PipeInput:
    """Bytes that come once, in pieces."""

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
        """Whoever writes them waits for that, and checksums come last.

        Raises FormatError where there is no end of it.
        """
        self._piece = memoryview(b"")
        left = _MOST_BEHIND
        for piece in self._pieces:
            left -= len(piece)
            if left < 0:
                raise FormatError(f"has more than {_MOST_BEHIND >> 20} MiB behind its end")

    def _read_some(self, most: int) -> memoryview:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return memoryview(b"")
            self._piece = memoryview(piece)
        some, self._piece = self._piece[:most], self._piece[most:]
        self.at += len(some)
        return some


def truncated_error() -> FormatError:
    return FormatError("is cut off: it ends within a file", "copy or make it again")
