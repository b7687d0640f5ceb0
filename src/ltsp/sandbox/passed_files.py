"""Reads contents directly from the files that were passed to the sandboxed process.

The process reports the extents of a file in them, and we read the bytes from there, which is faster than sending them
through a socket. With wrong extents, a compromised process can only put other bytes of the same files into the image,
which it could send just as well.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import FileChanged, SourceError
from ltsp.sandbox.tree_codec import FileExtents
from ltsp.storage.extents import HOLE
from ltsp.tree.content import Content, Stream


@dataclass(slots=True)
class PassedFiles:
    """The files, numbered in the order in which they were passed; open until the block ends."""

    descriptors: list[int] = field(default_factory=list)
    _opened: ExitStack = field(default_factory=ExitStack)

    def add(self, file: BinaryIO) -> None:
        descriptor = os.dup(file.fileno())
        self._opened.callback(os.close, descriptor)
        self.descriptors.append(descriptor)

    def content(self, stored: int, extents: FileExtents) -> Content:
        """Raises ValueError if an extent is outside the files."""
        for number, offset, size in extents:
            if number != HOLE and offset + size > self._size(number):
                raise ValueError(extents)
        return _PassedContent(self.descriptors, extents, stored)

    def _size(self, number: int) -> int:
        if number >= len(self.descriptors):
            raise ValueError(number)
        try:
            return os.lseek(self.descriptors[number], 0, io.SEEK_END)
        except OSError as error:  # a pipe has no extents
            raise ValueError(number) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _PassedContent:
    descriptors: Sequence[int]
    extents: FileExtents
    stored: int

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.extents)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_PassedStream(self.descriptors, self.extents, self.size))


@dataclass(slots=True)
class _PassedStream:
    descriptors: Sequence[int]
    extents: FileExtents
    size: int
    index: int = 0
    passed: int = 0
    """Bytes already read of the extent at `index`."""
    mtime: int | None = None

    def read(self, size: int) -> bytes:
        """Raises FileChanged if a file was truncated, and SourceError if it cannot be read."""
        pieces = []
        while size and self.index < len(self.extents):
            number, offset, length = self.extents[self.index]
            count = min(size, length - self.passed)
            pieces.append(bytes(count) if number == HOLE else self._read_piece(number, offset + self.passed, count))
            self._advance(count)
            size -= count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        if self.index == len(self.extents) or self.extents[self.index][0] != HOLE:
            return 0
        return self.extents[self.index][2] - self.passed

    def skip(self, size: int) -> None:
        while size and self.index < len(self.extents):
            count = min(size, self.extents[self.index][2] - self.passed)
            self._advance(count)
            size -= count

    def is_consistent(self) -> bool:
        """Always: the source checks the files as a whole."""
        return True

    def _read_piece(self, number: int, offset: int, size: int) -> bytes:
        try:
            piece = os.pread(self.descriptors[number], size, offset)
            while len(piece) < size:
                more = os.pread(self.descriptors[number], size - len(piece), offset + len(piece))
                if not more:
                    raise FileChanged(
                        "the source was truncated while it was being read", "try again when it is no longer in use"
                    )
                piece += more
        except OSError as error:
            raise SourceError(f"cannot read the source at byte {offset}: {error.strerror}") from error
        return piece

    def _advance(self, count: int) -> None:
        self.passed += count
        if self.passed == self.extents[self.index][2]:
            self.index += 1
            self.passed = 0
