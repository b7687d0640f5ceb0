"""A byte range of a file's content, as a content of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.tree.content import Content, Stream

_PIECE = 1 << 20
"""Bytes to read at a time before the part."""


@dataclass(slots=True)
class _ExcerptStream:
    stream: Stream
    size: int
    left: int
    mtime: int | None = None

    def read(self, size: int) -> bytes:
        piece = self.stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece

    def hole_size(self) -> int:
        return 0

    def skip(self, size: int) -> None:
        self.read(size)

    def is_consistent(self) -> bool:
        return self.stream.is_consistent()


@dataclass(frozen=True, slots=True)
class ContentSlice:
    whole: Content
    offset: int
    """Bytes from the start."""
    size: int
    """Size in bytes; completely available as of the scan."""

    @property
    def stored(self) -> int:
        return self.size

    @contextmanager
    def open(self) -> Iterator[Stream]:
        with self.whole.open() as stream:
            before = self.offset
            while before and (piece := stream.read(min(before, _PIECE))):
                before -= len(piece)
            yield _ExcerptStream(stream, self.size, self.size)
