"""File contents: their size, and reading them from start to end; those in memory, joined ones, and parts of others.

Joined contents and parts work on any content, also one that can only be read from start to end, such as a compressed
file; extents of files, disks and archives have a reader of their own (`storage/extents.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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
    def stored_size(self) -> int:
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
    def stored_size(self) -> int:
        return len(self.data)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_BytesStream(self.data))


_SKIPPED_AT_ONCE = 1 << 20
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
    def stored_size(self) -> int:
        return self.size

    @contextmanager
    def open(self) -> Iterator[Stream]:
        with self.whole.open() as stream:
            before = self.offset
            while before and (piece := stream.read(min(before, _SKIPPED_AT_ONCE))):
                before -= len(piece)
            yield _ExcerptStream(stream, self.size, self.size)


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
    def stored_size(self) -> int:
        return sum(part.stored_size for part in self.parts)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        with ExitStack() as opened:
            yield _ConcatStream([opened.enter_context(part.open()) for part in self.parts])
