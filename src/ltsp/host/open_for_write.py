"""Finds the process that is writing to a file, such as a running virtual machine.

QEMU holds locks (block/file-posix.c), other hypervisors only have the file open. Except for locks, what this process
cannot see is not found: other users' descriptors, or processes outside its container.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ltsp.host.process import FileUser, KernelObject, Process, list_loop_files, list_open_files, read_open_file_name

_FCNTL_LOCK = struct.Struct("@hhqqi0q")
"""struct flock with 64-bit offsets: type, whence, start, length, pid. fcntl(2)"""
_QEMU_WRITE_LOCK_BYTES = (101, 103)
"""Bytes with a shared lock by QEMU while it may write to a disk or resize it. (100 stands for reading.)"""
_LOCKS_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class Writer:
    user: FileUser | None
    """None if only its lock is visible."""
    holds_lock: bool
    """Whether it holds a lock; otherwise it has the file open for writing."""


def find_writer(descriptor: int) -> Writer | None:
    """One of the processes, other than this one, that write to an open file.

    Raises OSError if the file can no longer be examined.
    """
    opened = next(_find_writers(descriptor), None)
    holds_lock, pid = _find_record_lock(descriptor)
    if holds_lock or _is_flocked(descriptor):
        return Writer(opened or (Process.of(pid) if pid > 0 else None), holds_lock=True)
    return Writer(opened, holds_lock=False) if opened else None


def _find_record_lock(descriptor: int) -> tuple[bool, int]:
    """Whether a lock of fcntl(2) conflicts, and its PID; -1 and 0 mean unknown."""
    for kind, start, length in (*((fcntl.F_WRLCK, byte, 1) for byte in _QEMU_WRITE_LOCK_BYTES), (fcntl.F_RDLCK, 0, 0)):
        try:
            query = _FCNTL_LOCK.pack(kind, os.SEEK_SET, start, length, 0)
            found = _FCNTL_LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, query))
        except OSError as error:
            if error.errno in _LOCKS_UNSUPPORTED:
                return False, 0
            raise
        if found[0] != fcntl.F_UNLCK:
            return True, found[4]
    return False, 0


def _is_flocked(descriptor: int) -> bool:
    """Open the file again, so that a lock of ours on this descriptor is not lost."""
    try:
        other = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _LOCKS_UNSUPPORTED:
            raise
    finally:
        os.close(other)
    return False


def _find_writers(descriptor: int) -> Iterator[FileUser]:
    """Only files with the same name are examined: a stat of an unrelated one could hang on a dead server."""
    status = os.fstat(descriptor)
    name = read_open_file_name(f"/proc/self/fd/{descriptor}")
    own_file = (status.st_dev, status.st_ino)
    for pid, opened, file in list_open_files(lambda other: other == name):
        with suppress(OSError):  # it may be closed by now
            if file == own_file and _is_open_for_write(pid, opened):
                yield Process.of(pid)
    for file, device in list_loop_files():
        if file == own_file and not _is_read_only(device):
            yield device


def _is_read_only(device: KernelObject) -> bool:
    with open(f"/sys/block/{device.name.rpartition('/')[2]}/ro", encoding="ascii") as file:
        return file.read().strip() == "1"


def _is_open_for_write(pid: int, descriptor: str) -> bool:
    """From the octal flags in proc(5)."""
    with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "flags":
                return int(value, 8) & os.O_ACCMODE != os.O_RDONLY
    return False
