"""Reads contents directly from the files that were passed to the sandboxed process.

The process reports the extents of a file in them, and we read the bytes from there, which is faster than sending them
through a socket. With wrong extents, a compromised process can only put other bytes of the same files into the image,
which it could send just as well.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import FileChanged, SourceError
from ltsp.sandbox.tree_codec import FileExtents
from ltsp.storage.extents import HOLE, Extent, ExtentStream, chain_extents
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
    stored_size: int

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.extents)

    def open(self) -> AbstractContextManager[Stream]:
        extents = [
            Extent(size) if number == HOLE else Extent(size, _PassedFile(self.descriptors[number]), offset)
            for number, offset, size in self.extents
        ]
        return nullcontext(ExtentStream(chain_extents(extents)))


@dataclass(frozen=True, slots=True)
class _PassedFile:
    """A file whose size was checked when its extents were received."""

    descriptor: int

    @property
    def size(self) -> int:
        return sys.maxsize

    def read_at(self, offset: int, size: int) -> bytes:
        """Raises FileChanged if the file was truncated, and SourceError if it cannot be read."""
        try:
            piece = os.pread(self.descriptor, size, offset)
            while len(piece) < size:
                more = os.pread(self.descriptor, size - len(piece), offset + len(piece))
                if not more:
                    raise FileChanged(
                        "the source was truncated while it was being read", "try again when it is no longer in use"
                    )
                piece += more
        except OSError as error:
            raise SourceError(f"cannot read the source at byte {offset}: {error.strerror}") from error
        return piece
