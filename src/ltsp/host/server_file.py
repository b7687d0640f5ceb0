"""Regular files of the server as a whole: programs and libraries that it lends to clients."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_MOST: Final = 64 << 20
"""Bytes."""


def read_server_file(path: str) -> bytes | None:
    """The bytes of the file at a path relative to `/`, links followed; None where there is none that can be read.

    What is no regular file is not waited for and not read.
    """
    name = b"/" + path.encode("utf-8", "surrogateescape")
    try:
        with open(name, "rb", buffering=0, opener=_open_regular) as file:
            return file.read(_MOST)
    except OSError:
        return None


def _open_regular(name: str, _flags: int) -> int:
    """Raises OSError for what is no regular file or too large, which is left as it is."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST:
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor
