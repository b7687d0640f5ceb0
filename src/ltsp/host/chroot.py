"""Checks if a directory is a root file system; links are resolved inside it, as its own programs would."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from ltsp.host.root import RootDirectory

MARKS: Final = (b"usr", b"proc")
"""Directories of which one has to exist: copies may lack empty ones, and minimal systems lack /usr."""


def is_chroot(path: bytes) -> bool:
    """Whether it has one of the marks. An incomplete system is refused later, with what is missing."""
    return any(leads_to(path, mark, stat.S_ISDIR) for mark in MARKS)


def leads_to(path: bytes, inner: bytes, is_kind: Callable[[int], bool]) -> bool:
    """Whether the path leads to something of this kind, with links resolved inside the directory."""
    try:
        with RootDirectory.open(path) as root:
            handle = root.follow(inner)
            try:
                return is_kind(os.fstat(handle).st_mode)
            finally:
                os.close(handle)
    except OSError:
        return False
