"""Read an archive from start to end, within limits, keeping the data of members for later.

In a seekable file, data is skipped; from a pipe, it is copied into the spool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ltsp.archive.spool import Spool
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks

_MAX_TRAILING_SIZE = 64 << 20
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
        left = _MAX_TRAILING_SIZE
        for piece in self._pieces:
            left -= len(piece)
            if left < 0:
                raise FormatError(f"has more than {_MAX_TRAILING_SIZE >> 20} MiB of trailing data")

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


_MEMORY = 256 << 20
_MEMORY_PER_BYTE = 8
"""Bytes of memory for a tree: for any archive, and per stored byte. A header has 512 bytes, a node takes about 400."""
_BASE_UNPACKED = 256 << 20
_UNPACKED_PER_BYTE = 200
"""Limits of decompressed bytes. Systems grow three to five times, and gzip at most 1030 times."""
_BASE_STEPS = 1 << 20
_STEPS_PER_BYTE = 1
"""Path components to follow through symbolic links before members: chains of long links take time."""


@dataclass(slots=True)
class ArchiveUsage:
    """What one source used so far of its limits, with all its layers and members."""

    stored_bytes: int = 0
    """Stored bytes of the source that were read."""
    unpacked_bytes: int = 0
    """Decompressed bytes."""
    memory_used: int = 0
    link_components: int = 0
    """Components of symbolic links that were followed."""

    def count_unpacked(self, packed: int, unpacked: int) -> None:
        """Raises FormatError."""
        self.stored_bytes += packed
        self.unpacked_bytes += unpacked
        if self.unpacked_bytes > _BASE_UNPACKED + _UNPACKED_PER_BYTE * self.stored_bytes:
            raise FormatError(
                f"unpacks to more than {self.unpacked_bytes >> 20} MiB, {_UNPACKED_PER_BYTE} times its size",
                "if that is correct, unpack it yourself, and give the result",
            )

    def take_memory(self, memory: int) -> None:
        """Raises FormatError."""
        self.memory_used += memory
        if self.memory_used > _MEMORY + _MEMORY_PER_BYTE * self.stored_bytes:
            raise FormatError("has far more files and names than its size allows")

    def count_link_components(self, names: int) -> None:
        """Raises FormatError."""
        self.link_components += names
        if self.link_components > _BASE_STEPS + _STEPS_PER_BYTE * self.stored_bytes:
            raise FormatError("has far more symbolic links than its size allows")
