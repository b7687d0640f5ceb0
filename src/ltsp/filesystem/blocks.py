"""What a file system lies in: a range of bytes that can be read from anywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
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
