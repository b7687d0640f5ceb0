"""Shared locks on files that are open for reading: they keep writers out, and change nothing.

The record locks of fcntl(2) and those of flock(2) do not see each other: one takes the kind that the writer takes.
"""

from __future__ import annotations

import fcntl
import os
import struct

from ltsp.host.process import Process

_FLOCK = struct.Struct("@hhqqi0q")
"""struct flock with 64-bit offsets: type, whence, start, length, pid. fcntl(2)"""
_WHOLE = (os.SEEK_SET, 0, 0, 0)


def try_record_lock(descriptor: int) -> bool:
    """Keep record locks for writing out until the descriptor is closed; False if somebody has one.

    It is a lock of the open file, not of this process, which would lose it when any descriptor of the file closes.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE))
    except (BlockingIOError, PermissionError):
        return False
    return True


def try_flock(descriptor: int) -> bool:
    """Keep exclusive flock(2) out until the descriptor is closed; False if somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def record_holder(descriptor: int) -> Process | None:
    """Who has a record lock for writing, as far as it can be told."""
    found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE)))
    # -1 stands for a lock of an open file, 0 for a process of another PID namespace.
    return Process.of(found[4]) if found[0] != fcntl.F_UNLCK and found[4] > 0 else None
