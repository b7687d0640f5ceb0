"""The files that the reading process was given, as far as we read them ourselves.

It says where a file of the source lies in them, and we take the bytes from there: that spares both processes the way
through a socket. A process that says wrong places gets other bytes of those same files into the image, which it could
have sent as well.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import Changed, SourceError
from ltsp.sandbox.tree_codec import Places
from ltsp.storage.extents import HOLE
from ltsp.tree.content import Content, Stream


@dataclass(slots=True)
class GivenFiles:
    """By their numbers, in the order in which they were given; open until the block ends."""

    descriptors: list[int] = field(default_factory=list)
    _opened: ExitStack = field(default_factory=ExitStack)

    def add(self, file: BinaryIO) -> None:
        descriptor = os.dup(file.fileno())
        self._opened.callback(os.close, descriptor)
        self.descriptors.append(descriptor)

    def content(self, stored: int, places: Places) -> Content:
        """Raises ValueError where a place lies in none of them."""
        for number, offset, size in places:
            if number != HOLE and offset + size > self._size(number):
                raise ValueError(places)
        return _Content(self.descriptors, places, stored)

    def _size(self, number: int) -> int:
        if number >= len(self.descriptors):
            raise ValueError(number)
        try:
            return os.lseek(self.descriptors[number], 0, io.SEEK_END)
        except OSError as error:  # what comes through a pipe lies nowhere
            raise ValueError(number) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _Content:
    descriptors: Sequence[int]
    places: Places
    stored: int

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.places)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_Stream(self.descriptors, self.places, self.size))


@dataclass(slots=True)
class _Stream:
    descriptors: Sequence[int]
    places: Places
    size: int
    index: int = 0
    passed: int = 0
    """Bytes of the place at `index`."""
    mtime: int | None = None

    def read(self, size: int) -> bytes:
        """Raises Changed where a file became shorter, and SourceError where it cannot be read."""
        pieces = []
        while size and self.index < len(self.places):
            number, offset, length = self.places[self.index]
            count = min(size, length - self.passed)
            pieces.append(bytes(count) if number == HOLE else self._piece(number, offset + self.passed, count))
            self._pass(count)
            size -= count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole(self) -> int:
        if self.index == len(self.places) or self.places[self.index][0] != HOLE:
            return 0
        return self.places[self.index][2] - self.passed

    def skip(self, size: int) -> None:
        while size and self.index < len(self.places):
            count = min(size, self.places[self.index][2] - self.passed)
            self._pass(count)
            size -= count

    def settled(self) -> bool:
        """The files are watched as a whole, by the source."""
        return True

    def _piece(self, number: int, offset: int, size: int) -> bytes:
        try:
            piece = os.pread(self.descriptors[number], size, offset)
            while len(piece) < size:
                more = os.pread(self.descriptors[number], size - len(piece), offset + len(piece))
                if not more:
                    raise Changed("the source became shorter while it was read", "try again when nothing uses it")
                piece += more
        except OSError as error:
            raise SourceError(f"the source cannot be read at byte {offset}: {error.strerror}") from error
        return piece

    def _pass(self, count: int) -> None:
        self.passed += count
        if self.passed == self.places[self.index][2]:
            self.index += 1
            self.passed = 0
