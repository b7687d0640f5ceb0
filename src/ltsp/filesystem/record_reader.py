"""Read small records of a volume, and report parse errors as damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, read_exactly


@contextmanager
def translate_damage(what: str) -> Iterator[None]:
    """Wrap a parser: numbers that lead outside of the data mean damage, not an internal error."""
    try:
        yield
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is damaged: {error}") from error


_CHUNK = 64 << 10
_CHUNKS = 256
"""Bytes to read at a time, and the number of such chunks to cache: 16 MiB."""


@dataclass(slots=True)
class RecordReader:
    """Reads small records near each other, such as inodes, many at a time."""

    blocks: Blocks
    _chunks: dict[int, bytes] = field(default_factory=dict)

    def read(self, place: int, size: int, what: str) -> bytes:
        """A record; `what` names it in messages. Raises FormatError if it is outside of the volume."""
        number, offset = divmod(place, _CHUNK)
        if offset + size > _CHUNK or number < 0:
            return read_exactly(self.blocks, place, size, what)
        chunk = self._chunks.get(number)
        if chunk is None:
            if len(self._chunks) >= _CHUNKS:
                self._chunks.clear()
            chunk = self._chunks[number] = self.blocks.read_at(number * _CHUNK, _CHUNK)
        record = chunk[offset : offset + size]
        if len(record) < size:
            raise FormatError(f"{what} at {place} extends beyond the end ({self.blocks.size} bytes)")
        return record
