"""Random access to bytes: of a file, a disk in it, a volume, a layer in an archive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from ltsp.errors import FormatError

_MOST_AT_ONCE: Final = 64 << 20
"""Bytes: a sparse file may have any size, and a record in it may claim any."""
_PIECE: Final = 1 << 20


class Blocks(Protocol):
    """Bytes that can be read at any offset; implementations say whether several threads may read at once."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer only at the end. Raises FormatError and SourceError."""
        ...


def read_exactly(blocks: Blocks, offset: int, size: int, what: str) -> bytes:
    """Exactly `size` bytes; `what` names them in messages.

    Raises FormatError if they are outside of `blocks` or too many.
    """
    if size > _MOST_AT_ONCE:
        raise FormatError(f"{what} is too large: {size} bytes")
    if offset < 0 or size < 0 or offset + size > blocks.size:
        raise FormatError(f"{what} at {offset} extends beyond the end ({blocks.size} bytes)")
    data = blocks.read_at(offset, size)
    if len(data) != size:
        raise FormatError(f"{what} at {offset} is truncated")
    return data


def read_pieces(blocks: Blocks) -> Iterator[bytes]:
    """All bytes, from start to end, in pieces."""
    at = 0
    while piece := blocks.read_at(at, _PIECE):
        yield piece
        at += len(piece)
