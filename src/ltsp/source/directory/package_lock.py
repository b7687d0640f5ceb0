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

_POLL_INTERVAL = 0.2
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
def hold_package_locks(root: RootDirectory, timeout: float, on_wait: Callable[[str], None]) -> Iterator[list[str]]:
    """Hold the locks of all package managers found below the root; yields a line for each that cannot be held.

    `on_wait` is called once for each lock that another process holds, with a line that names it.
    Raises LockHeld after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    notes: list[str] = []
    with ExitStack() as stack:
        for lock in _LOCKS:
            if _may_exist(root, lock.directory):
                reason = _take_lock(root, lock, deadline, on_wait, stack)
                if reason:
                    notes.append(f"cannot lock /{lock.path} against package managers: {reason}")
        yield notes


def _take_lock(
    root: RootDirectory, lock: _PackageLock, deadline: float, on_wait: Callable[[str], None], stack: ExitStack
) -> str:
    """Take the lock until `stack` closes; returns why that is not possible, or empty."""
    if lock.method is _LockMethod.EXISTENCE:
        _wait_for_lock(lambda: not _may_exist(root, lock.path), lambda: None, lock, deadline, on_wait)
        return "the lock is a file that exists while pacman runs, so ltsp can only wait until it is gone"
    try:
        descriptor = root.open_file_following_links(encode(lock.path))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    stack.callback(os.close, descriptor)
    try:
        if lock.method is _LockMethod.RECORD:
            attempt, find_holder = locks.try_shared_record_lock, locks.find_record_lock_holder
        else:
            attempt, find_holder = locks.try_shared_flock, locks.find_flock_holder
        _wait_for_lock(lambda: attempt(descriptor), lambda: find_holder(descriptor), lock, deadline, on_wait)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _wait_for_lock(
    try_lock: Callable[[], bool],
    find_holder: Callable[[], Process | None],
    lock: _PackageLock,
    deadline: float,
    on_wait: Callable[[str], None],
) -> None:
    announced = False
    while not try_lock():
        name = _describe_holder(find_holder())
        if time.monotonic() >= deadline:
            hint = "try again when it has finished"
            if lock.method is _LockMethod.EXISTENCE:
                hint += "; if none is running, remove that file"
            raise LockHeld(f"the package manager is running in the source: {name} holds /{lock.path}", hint)
        if not announced:
            on_wait(f"waiting for the package manager: {name} holds /{lock.path}")
            announced = True
        time.sleep(_POLL_INTERVAL)


def _describe_holder(process: Process | None) -> str:
    return "another process" if process is None else f"{printable(process.command)} (process {process.pid})"


def _may_exist(root: RootDirectory, path: str) -> bool:
    """Whether the path exists, or may exist."""
    try:
        os.close(root.open_handle(encode(path)))
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return True
