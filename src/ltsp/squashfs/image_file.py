"""The bytes of an image by their place in it; several threads may read at once."""

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
        """Bytes; found by seeking because a block device has no size in `stat(2)`."""
        try:
            self._descriptor: int | None = file.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None

    def read(self, place: int, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises FormatError when the file ends before, and OSError as `pread(2)` does.
        """
        data = self.read_up_to(place, size)
        if len(data) < size:
            raise FormatError(
                f"{self.name} is truncated: {size} bytes expected at {place}, but it ends at {place + len(data)}"
            )
        return data

    def read_up_to(self, place: int, size: int) -> bytes:
        """As many bytes as there are, at most `size`."""
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
