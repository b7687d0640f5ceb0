"""The locks of the source's package manager, held while the source is read.

They are shared locks on read-only descriptors opened inside the root: that keeps out the package manager's write lock
and changes nothing in the source. No lock file is created: a missing or unreadable one is reported in a line.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum

from ltsp.errors import LockHeld
from ltsp.host import locks
from ltsp.host.process import Process
from ltsp.host.root import RootDirectory
from ltsp.tree.name import encode, printable

_PAUSE = 0.2
"""Seconds between attempts: the kernel offers no lock call with a timeout."""


class _LockMethod(Enum):
    """How a package manager locks its database."""

    RECORD = "fcntl(2)"
    FLOCK = "flock(2)"
    EXISTENCE = "the file exists while it runs"


@dataclass(frozen=True, slots=True)
class _PackageLock:
    directory: str
    """Exists if the package manager is installed."""
    file: str
    method: _LockMethod

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.file}"


_LOCKS = (
    # apt and similar tools hold the first across several runs of dpkg: this is their order.
    _PackageLock("var/lib/dpkg", "lock-frontend", _LockMethod.RECORD),
    _PackageLock("var/lib/dpkg", "lock", _LockMethod.RECORD),
    _PackageLock("var/lib/rpm", ".rpm.lock", _LockMethod.RECORD),
    _PackageLock("usr/lib/sysimage/rpm", ".rpm.lock", _LockMethod.RECORD),
    _PackageLock("lib/apk/db", "lock", _LockMethod.FLOCK),
    _PackageLock("var/lib/pacman", "db.lck", _LockMethod.EXISTENCE),
)


@contextmanager
def hold(root: RootDirectory, timeout: float, waiting: Callable[[str], None]) -> Iterator[list[str]]:
    """Hold the locks of all package managers found below the root; yields a line for each that cannot be held.

    `waiting` is called once for each lock that another process holds, with a line that names it.
    Raises LockHeld after `timeout` seconds.
    """
    until = time.monotonic() + timeout
    notes: list[str] = []
    with ExitStack() as held:
        for lock in _LOCKS:
            if _may_exist(root, lock.directory):
                reason = _take_lock(root, lock, until, waiting, held)
                if reason:
                    notes.append(f"cannot lock /{lock.path} against package managers: {reason}")
        yield notes


def _take_lock(
    root: RootDirectory, lock: _PackageLock, until: float, waiting: Callable[[str], None], held: ExitStack
) -> str:
    """Take the lock until `held` closes; returns why that is not possible, or empty."""
    if lock.method is _LockMethod.EXISTENCE:
        _wait_for_lock(lambda: not _may_exist(root, lock.path), lambda: None, lock, until, waiting)
        return "the lock is a file that exists while pacman runs, so ltsp can only wait until it is gone"
    try:
        descriptor = root.follow_file(encode(lock.path))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    held.callback(os.close, descriptor)
    try:
        if lock.method is _LockMethod.RECORD:
            attempt, holder = locks.try_record_lock, locks.record_holder
        else:
            attempt, holder = locks.try_flock, locks.holder
        _wait_for_lock(lambda: attempt(descriptor), lambda: holder(descriptor), lock, until, waiting)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _wait_for_lock(
    try_lock: Callable[[], bool],
    holder: Callable[[], Process | None],
    lock: _PackageLock,
    until: float,
    waiting: Callable[[str], None],
) -> None:
    announced = False
    while not try_lock():
        name = _describe_holder(holder())
        if time.monotonic() >= until:
            hint = "try again when it has finished"
            if lock.method is _LockMethod.EXISTENCE:
                hint += "; if none is running, remove that file"
            raise LockHeld(f"the package manager is running in the source: {name} holds /{lock.path}", hint)
        if not announced:
            waiting(f"waiting for the package manager: {name} holds /{lock.path}")
            announced = True
        time.sleep(_PAUSE)


def _describe_holder(process: Process | None) -> str:
    return "another process" if process is None else f"{printable(process.command)} (process {process.pid})"


def _may_exist(root: RootDirectory, path: str) -> bool:
    """Whether the path exists, or may exist."""
    try:
        os.close(root.open_handle(encode(path)))
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return True
