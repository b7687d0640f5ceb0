"""What a regular file holds, as a small protocol: how large it is and how to read it from start to end."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


class Stream(Protocol):
    """A file that was opened for one reading from start to end."""

    @property
    def size(self) -> int:
        """Bytes there are, as of the opening; it may differ from what the scan saw."""
        ...

    @property
    def mtime(self) -> int | None:
        """Seconds since 1970 as of the opening, where the file is not the one that the scan saw; else None."""
        ...

    def read(self, size: int) -> bytes:
        """The next bytes, exactly `size` of them unless the file ends before.

        Raises OSError as `read(2)` does, and FormatError where an image holds the file.
        """
        ...

    def hole_size(self) -> int:
        """How many bytes from here on are known to lie in a hole; 0 in data. Nothing is read."""
        ...

    def skip(self, size: int) -> None:
        """Pass over `size` bytes, which lie in a hole."""
        ...

    def is_consistent(self) -> bool:
        """Whether what was read is one consistent version of the file. Asked after the reading."""
        ...


class Content(Protocol):
    """The bytes of a regular file."""

    @property
    def size(self) -> int:
        """Bytes, as the scan saw them."""
        ...

    @property
    def stored(self) -> int:
        """Bytes that take room where the file lies: those in holes do not."""
        ...

    def open(self) -> AbstractContextManager[Stream]:
        """Open for one reading.

        Raises FileVanished when the file is gone, OSError as `open(2)` does.
        """
        ...


@dataclass(slots=True)
class _BytesStream:
    data: bytes
    at: int = 0
    mtime: int | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def hole_size(self) -> int:
        return 0

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Bytes:
    """Content that is at hand: what a transform rewrote, and test data."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def stored(self) -> int:
        return len(self.data)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_BytesStream(self.data))
