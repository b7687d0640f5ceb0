"""Bytes that can be read at any offset: files, and bytes in memory; and writing sparse files of them."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

from ltsp.errors import FormatError, SourceError

_MAX_READ_SIZE: Final = 64 << 20
"""Bytes: a sparse file may have any size, and a record in it may claim any."""
_PIECE_SIZE: Final = 1 << 20
_GRAIN: Final = 64 << 10
"""Bytes: an aligned block of this many zeros becomes a hole."""
_ZEROS: Final = bytes(_GRAIN)

OpenSibling = Callable[[str], BinaryIO]
"""Opens a file by the name that an image stores, after the directory of the image if that is elsewhere. It decides
what may be opened, and closes the files when reading ends.

Raises LtspError.
"""


class Blocks(Protocol):
    """Bytes that can be read at any offset; implementations say whether several threads may read at once."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer only at the end. Raises FormatError and SourceError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FileBlocks:
    """An open file; the caller closes it. Data appended later is ignored. Several threads may read at once."""

    file: BinaryIO
    size: int
    descriptor: int
    """-1 if the file has no descriptor."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, file: BinaryIO) -> FileBlocks:
        """Raises SourceError if its size cannot be determined."""
        try:
            descriptor = file.fileno()
        except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
            descriptor = -1
        try:
            size = file.seek(0, io.SEEK_END)
        except OSError as error:
            raise SourceError(f"cannot determine its size: {error.strerror}") from error
        return cls(file, size, descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        try:
            piece = self._read(offset, size)
            if len(piece) == size:
                return piece
            pieces = [piece]
            while piece and size > len(piece):
                offset += len(piece)
                size -= len(piece)
                pieces.append(piece := self._read(offset, size))
        except OSError as error:
            raise SourceError(f"cannot read it at offset {offset}: {error.strerror}") from error
        return b"".join(pieces)

    def _read(self, offset: int, size: int) -> bytes:
        if self.descriptor >= 0:
            return os.pread(self.descriptor, size, offset)
        with self.lock:
            self.file.seek(offset)
            return self.file.read(size)


@dataclass(frozen=True, slots=True, eq=False)
class LazyBlocks:
    """Bytes that are produced when they are read."""

    size: int
    make: Callable[[], bytes]

    def read_at(self, offset: int, size: int) -> bytes:
        return self.make()[offset : offset + size]


@dataclass(frozen=True, slots=True, eq=False)
class MemoryBlocks:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


def read_exactly(blocks: Blocks, offset: int, size: int, what: str) -> bytes:
    """Exactly `size` bytes; `what` names them in messages.

    Raises FormatError if they are outside of `blocks` or too many.
    """
    if size > _MAX_READ_SIZE:
        raise FormatError(f"{what} is too large: {size} bytes")
    if offset < 0 or size < 0 or offset + size > blocks.size:
        raise FormatError(f"{what} at {offset} extends beyond the end of the file or volume ({blocks.size} bytes)")
    data = blocks.read_at(offset, size)
    if len(data) != size:
        raise FormatError(f"{what} at {offset} is truncated")
    return data


def read_pieces(blocks: Blocks) -> Iterator[bytes]:
    """All bytes, from start to end, in pieces."""
    at = 0
    while piece := blocks.read_at(at, _PIECE_SIZE):
        yield piece
        at += len(piece)


def write_sparse(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write data to an unwritten range of a file; return the number of bytes stored.

    Runs of zeros become holes; those at the end do not extend the file. Raises OSError.
    """
    view = memoryview(data)
    written = 0
    for at in range(0, len(view), _GRAIN):
        piece = view[at : at + _GRAIN]
        if piece != _ZEROS[: len(piece)]:
            _write_all(descriptor, piece, offset + at)
            written += len(piece)
    return written


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def free_bytes(descriptor: int) -> int:
    """Free bytes on the file system of a file. Raises OSError."""
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize
