"""Read an image file at any offset; several threads may read at once."""

from __future__ import annotations

import io
import os
from threading import Lock
from typing import BinaryIO

from ltsp.errors import FormatError


class ImageFile:
    """A seekable file that is open for reading. The caller closes it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        """For messages."""
        self._file = file
        self._lock = Lock()
        self.size = file.seek(0, io.SEEK_END)
        """Bytes; determined by seeking, because a block device has no size in `stat(2)`."""
        try:
            self._descriptor: int | None = file.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None

    def read(self, place: int, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises FormatError if the file is too short, and OSError like `pread(2)`.
        """
        data = self.read_up_to(place, size)
        if len(data) < size:
            raise FormatError(
                f"{self.name} is truncated: {size} bytes expected at {place}, but it ends at {place + len(data)}"
            )
        return data

    def read_up_to(self, place: int, size: int) -> bytes:
        """At most `size` bytes, fewer at the end."""
        if place >= self.size:
            return b""
        pieces: list[bytes] = []
        left = min(size, self.size - place)
        while left:
            piece = self._read_some(place, left)
            if not piece:
                break
            pieces.append(piece)
            place += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_some(self, place: int, size: int) -> bytes:
        if self._descriptor is not None:
            return os.pread(self._descriptor, size, place)
        with self._lock:
            self._file.seek(place)
            return self._file.read(size)
