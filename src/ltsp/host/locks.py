"""A lock that dies with its holder, and that can say who holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ltsp.host.process import Process

_LONGEST_PAUSE = 0.5
"""Seconds between two tries; the first ones follow faster."""


class LockBusy(Exception):
    """Another process holds the lock: `holder`, or None where it cannot be told."""

    def __init__(self, holder: Process | None) -> None:
        super().__init__(holder)
        self.holder = holder


@contextmanager
def hold_exclusive(path: str, wait: float = 0.0) -> Iterator[None]:
    """Hold flock(2) on a file that is made if need be. Only who holds it may remove it.

    `wait` is the seconds to try, `math.inf` for ever. The file is 0600: who may not change the place can not hold its
    lock either.

    Raises LockBusy, and FileNotFoundError where its directory is missing.
    """
    descriptor = _open_locked(path, time.monotonic() + wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_locked(path: str, until: float) -> int:
    """A descriptor of the file that has the lock and still bears the name: its holder may have removed it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _acquire(descriptor, until)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _acquire(descriptor: int, until: float) -> None:
    pause = 0.01
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rest = until - time.monotonic()
            if rest <= 0:
                raise LockBusy(holder(descriptor)) from None
            time.sleep(min(pause, rest))
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return


def holder(descriptor: int) -> Process | None:
    """Who holds flock on this file. proc_locks(5)

    The inode decides, and the device only between several: btrfs shows another one there than stat(2) does.
    """
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found: dict[str, int] = {}
    with open("/proc/locks", encoding="ascii", errors="replace") as table:
        for line in table:
            fields = line.split()
            # 1: FLOCK ADVISORY WRITE 123 fd:00:4711 0 EOF; a process that waits has `->` after the number.
            if fields[1:4] != ["FLOCK", "ADVISORY", "WRITE"]:
                continue
            where, _, inode = fields[5].rpartition(":")
            if inode == str(status.st_ino):
                found[where] = int(fields[4])
    pid = found.get(device, next(iter(found.values()), 0))
    return Process.of(pid) if pid > 0 else None
