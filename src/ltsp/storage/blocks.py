"""Bytes that lie somewhere and can be read at any place: a file, a disk in it, a volume, a layer in an archive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from ltsp.errors import FormatError

_MOST_AT_ONCE: Final = 64 << 20
"""Bytes: a sparse file may have any size, and what it holds claim any."""
_PIECE: Final = 1 << 20


class Blocks(Protocol):
    """Several threads may read at once, where its maker allows it."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes, fewer only at the end. Raises FormatError and SourceError."""
        ...


def read_exactly(blocks: Blocks, offset: int, size: int, what: str) -> bytes:
    """All of these bytes.

    Raises FormatError, which names what should have been there, where they do not lie in `blocks` or are too many.
    """
    if size > _MOST_AT_ONCE:
        raise FormatError(f"{what} has {size} bytes")
    if offset < 0 or size < 0 or offset + size > blocks.size:
        raise FormatError(f"{what} should lie at {offset}, where there are {blocks.size} bytes")
    data = blocks.read_at(offset, size)
    if len(data) != size:
        raise FormatError(f"{what} at {offset} is cut off")
    return data


def read_pieces(blocks: Blocks) -> Iterator[bytes]:
    """All of it, from start to end."""
    at = 0
    while piece := blocks.read_at(at, _PIECE):
        yield piece
        at += len(piece)
