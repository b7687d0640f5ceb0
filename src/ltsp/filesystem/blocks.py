"""What a file system lies in: a range of bytes that can be read from anywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ltsp.errors import FormatError


class Blocks(Protocol):
    """A partition, a volume or a file. Several threads may read at once if its maker allows it."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes; fewer only at the end."""
        ...


def read_exactly(blocks: Blocks, offset: int, size: int, what: str) -> bytes:
    """All of these bytes.

    Raises FormatError, which names what should have been there, where they do not lie in the volume.
    """
    if offset < 0 or size < 0 or offset + size > blocks.size:
        raise FormatError(f"{what} should lie at {offset}, the volume has {blocks.size} bytes")
    data = blocks.read_at(offset, size)
    if len(data) != size:
        raise FormatError(f"{what} at {offset} is cut off")
    return data


@contextmanager
def damage_told(what: str) -> Iterator[None]:
    """The edge of a parser: numbers that lead beyond what was read are damage, not a fault of ours."""
    try:
        yield
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is damaged: {error}") from error


_CHUNK = 64 << 10
_CHUNKS = 256
"""Bytes that are read at once, and how many such pieces are kept: 16 MiB."""


@dataclass(slots=True)
class Records:
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
            raise FormatError(f"{what} should lie at {place}, the volume has {self.blocks.size} bytes")
        return record
