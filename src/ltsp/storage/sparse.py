"""Files that are filled with what is unpacked or copied, with holes where there are only zeros."""

from __future__ import annotations

import os
from typing import Final

_GRAIN: Final = 64 << 10
"""Bytes: so many zeros, from a multiple of that in what is written, become a hole."""
_ZEROS: Final = bytes(_GRAIN)


def write_sparse(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write where nothing was written yet; how many bytes took room. The file may end before the zeros do.

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
    """Free bytes of the file system that a file lies on. Raises OSError."""
    status = os.fstatvfs(descriptor)
    return status.f_bavail * status.f_frsize


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
