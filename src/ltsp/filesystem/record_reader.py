"""What the readers of file systems share: small records of a volume, and damage that is told as such."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, read_exactly


@contextmanager
def translate_damage(what: str) -> Iterator[None]:
    """The edge of a parser: numbers that lead beyond what was read are damage, not a fault of ours."""
    try:
        yield
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is damaged: {error}") from error


_CHUNK = 64 << 10
_CHUNKS = 256
"""Bytes that are read at once, and how many such pieces are kept: 16 MiB."""


@dataclass(slots=True)
class RecordReader:
    """Small records that lie near each other, such as inodes, read many at a time."""

    blocks: Blocks
    _chunks: dict[int, bytes] = field(default_factory=dict)

    def read(self, place: int, size: int, what: str) -> bytes:
        """Raises FormatError, which names what should have been there, where it does not lie in the volume."""
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
            raise FormatError(f"{what} should lie at {place}, where there are {self.blocks.size} bytes")
        return record
