"""File locks: exclusive ones that end with their holder, who can be named, and shared ones on files being read.

A shared lock keeps writers out, and changes nothing. The record locks of fcntl(2) and the locks of flock(2) are
independent: use the kind that the writer uses.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ltsp.host.process import Process

_MAX_PAUSE = 0.5
"""Seconds between attempts; the first ones follow faster."""


class LockBusy(Exception):
    """Another process holds the lock: `find_flock_holder`, or None if unknown."""

    def __init__(self, find_flock_holder: Process | None) -> None:
        super().__init__(find_flock_holder)
        self.holder = find_flock_holder


@contextmanager
def hold_exclusive(path: str, wait: float = 0.0) -> Iterator[None]:
    """Hold flock(2) on a file, which is created if missing. Only the holder may remove it.

    `wait` is the seconds to try, `math.inf` for no limit. The file has mode 0600, so that unprivileged users cannot
    hold the lock.

    Raises LockBusy, and FileNotFoundError if its directory is missing.
    """
    descriptor = _open_locked(path, time.monotonic() + wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(path: str, deadline: float) -> int:
    """A locked descriptor of the file that still has this name: a previous holder may have removed it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _acquire_flock(descriptor, deadline)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _acquire_flock(descriptor: int, deadline: float) -> None:
    pause = 0.01
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rest = deadline - time.monotonic()
            if rest <= 0:
                raise LockBusy(find_flock_holder(descriptor)) from None
            time.sleep(min(pause, rest))
            pause = min(pause * 2, _MAX_PAUSE)
        else:
            return


def find_flock_holder(descriptor: int) -> Process | None:
    """The process that holds flock on this file. proc_locks(5)

    Matched by inode, and by device only if ambiguous: for btrfs it differs from that of stat(2).
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[str, int] = {}
    with open("/proc/locks", encoding="ascii", errors="replace") as table:
        for line in table:
            fields = line.split()
            # 1: FLOCK ADVISORY WRITE 123 fd:00:4711 0 EOF; a waiting process has `->` after the number.
            if fields[1:4] != ["FLOCK", "ADVISORY", "WRITE"]:
                continue
            lock_device, _, inode = fields[5].rpartition(":")
            if inode == str(status.st_ino):
                found[lock_device] = int(fields[4])
    pid = found.get(device, next(iter(found.values()), 0))
    return Process.of(pid) if pid > 0 else None


_FCNTL_LOCK = struct.Struct("@hhqqi0q")
"""struct flock with 64-bit offsets: type, whence, start, length, pid. fcntl(2)"""
_WHOLE_FILE = (os.SEEK_SET, 0, 0, 0)


def try_shared_record_lock(descriptor: int) -> bool:
    """Keep out record locks for writing until the descriptor is closed; False if another process holds one.

    It is a lock of the open file, not of the process, which would lose it when any descriptor of the file closes.

    Raises OSError if the file system does not support locks.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FCNTL_LOCK.pack(fcntl.F_RDLCK, *_WHOLE_FILE))
    except (BlockingIOError, PermissionError):
        return False
    return True


def try_shared_flock(descriptor: int) -> bool:
    """Keep out exclusive flock(2) until the descriptor is closed; False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_record_lock_holder(descriptor: int) -> Process | None:
    """The holder of a record lock for writing; None if unknown."""
    found = _FCNTL_LOCK.unpack(
        fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FCNTL_LOCK.pack(fcntl.F_RDLCK, *_WHOLE_FILE))
    )
    # -1 stands for a lock of an open file, 0 for a process of another PID namespace.
    return Process.of(found[4]) if found[0] != fcntl.F_UNLCK and found[4] > 0 else None
