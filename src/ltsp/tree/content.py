"""The protocol of file contents: their size, and reading them from start to end."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


class ByteOutput(Protocol):
    """What a writer of archives writes to."""

    def write(self, data: bytes, /) -> object:
        """Write all bytes, like a buffered file."""
        ...


class Stream(Protocol):
    """A file opened for reading once, from start to end."""

    @property
    def size(self) -> int:
        """Size in bytes when it was opened, which may differ from the scan."""
        ...

    @property
    def mtime(self) -> int | None:
        """Seconds since 1970 when it was opened, if the file changed since the scan; else None."""
        ...

    def read(self, size: int) -> bytes:
        """The next bytes, exactly `size` of them unless the file ends.

        Raises OSError like `read(2)`, and FormatError if the file is in an image.
        """
        ...

    def hole_size(self) -> int:
        """The number of bytes from the current position that are known to be in a hole; 0 in data. Reads nothing."""
        ...

    def skip(self, size: int) -> None:
        """Skip `size` bytes, which are in a hole."""
        ...

    def is_consistent(self) -> bool:
        """Whether the bytes read are one consistent version of the file. Called after reading."""
        ...


class Content(Protocol):
    """The bytes of a regular file."""

    @property
    def size(self) -> int:
        """Size in bytes as of the scan."""
        ...

    @property
    def stored(self) -> int:
        """Bytes stored in the source, without holes."""
        ...

    def open(self) -> AbstractContextManager[Stream]:
        """Open for reading once.

        Raises FileVanished if the file is gone, OSError like `open(2)`.
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
    """Content in memory: rewritten by a transform, or test data."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def stored(self) -> int:
        return len(self.data)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_BytesStream(self.data))
