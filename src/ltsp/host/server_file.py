"""Reads whole files of the server: programs and libraries that it provides to clients."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_MOST: Final = 64 << 20
"""Bytes."""


def read_server_file(path: str) -> bytes | None:
    """The bytes of the file at a path relative to `/`, links followed; None if it is missing or unreadable.

    Only regular files are read, so that it never blocks.
    """
    name = b"/" + path.encode("utf-8", "surrogateescape")
    try:
        with open(name, "rb", buffering=0, opener=_open_regular) as file:
            return file.read(_MOST)
    except OSError:
        return None


def _open_regular(name: str, _flags: int) -> int:
    """Raises OSError if it is not a regular file, or too large."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST:
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor
