"""Shared locks on files that are open for reading: they keep writers out, and change nothing.

The record locks of fcntl(2) and the locks of flock(2) are independent: use the kind that the writer uses.
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
    """Keep out record locks for writing until the descriptor is closed; False if another process holds one.

    It is a lock of the open file, not of the process, which would lose it when any descriptor of the file closes.

    Raises OSError if the file system does not support locks.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE))
    except (BlockingIOError, PermissionError):
        return False
    return True


def try_flock(descriptor: int) -> bool:
    """Keep out exclusive flock(2) until the descriptor is closed; False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def record_holder(descriptor: int) -> Process | None:
    """The holder of a record lock for writing; None if unknown."""
    found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_RDLCK, *_WHOLE)))
    # -1 stands for a lock of an open file, 0 for a process of another PID namespace.
    return Process.of(found[4]) if found[0] != fcntl.F_UNLCK and found[4] > 0 else None
