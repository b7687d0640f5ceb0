"""Concatenate contents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.tree.content import Content, Stream


@dataclass(slots=True)
class _ConcatStream:
    streams: list[Stream]
    at: int = 0
    mtime: int | None = None

    @property
    def size(self) -> int:
        return sum(stream.size for stream in self.streams)

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size and self.at < len(self.streams):
            piece = self.streams[self.at].read(size)
            if not piece:
                self.at += 1
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def hole_size(self) -> int:
        return 0

    def skip(self, size: int) -> None:
        self.read(size)

    def is_consistent(self) -> bool:
        return all(stream.is_consistent() for stream in self.streams)


@dataclass(frozen=True, slots=True)
class ConcatContent:
    parts: tuple[Content, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def stored(self) -> int:
        return sum(part.stored for part in self.parts)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        with ExitStack() as opened:
            yield _ConcatStream([opened.enter_context(part.open()) for part in self.parts])
