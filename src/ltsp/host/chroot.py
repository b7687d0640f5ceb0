"""Whether a directory is meant as a root file system: looked at from within, as its own programs would see it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from ltsp.host.root import RootDirectory

MARKS: Final = (b"usr", b"proc")
"""Directories of which there has to be one: copies come without those that are empty, and the smallest without /usr."""


def is_chroot(path: bytes) -> bool:
    """Whether it has one of the marks. One that is not whole is refused later, by what it lacks."""
    return any(leads_to(path, mark, stat.S_ISDIR) for mark in MARKS)


def leads_to(path: bytes, inner: bytes, is_kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this kind in a directory, links resolved inside it."""
    try:
        with RootDirectory.open(path) as root:
            handle = root.follow(inner)
            try:
                return is_kind(os.fstat(handle).st_mode)
            finally:
                os.close(handle)
    except OSError:
        return False
