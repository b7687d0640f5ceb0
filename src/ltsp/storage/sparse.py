"""Write sparse files: runs of zeros become holes."""

from __future__ import annotations

import os
from typing import Final

_GRAIN: Final = 64 << 10
"""Bytes: an aligned block of this many zeros becomes a hole."""
_ZEROS: Final = bytes(_GRAIN)


def write_sparse(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write data to an unwritten range; return the number of bytes stored. Zeros at the end do not extend the file.

    Raises OSError.
    """
    view = memoryview(data)
    written = 0
    for at in range(0, len(view), _GRAIN):
        piece = view[at : at + _GRAIN]
        if piece != _ZEROS[: len(piece)]:
            _write_all(descriptor, piece, offset + at)
            written += len(piece)
    return written


def free_bytes(descriptor: int) -> int:
    """Free bytes on the file system of a file. Raises OSError."""
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
