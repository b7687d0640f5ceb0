"""Other processes of this machine, from /proc: their commands and open files."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64 = struct.Struct("=QQ 216x")
"""struct loop_info64, of which the backing file's device and inode come first. linux/loop.h"""

_NFS_OPEN_FILE = re.compile(r'superblock: "([0-9a-f]+):([0-9a-f]+):(\d+)"')
"""Device (hexadecimal) and inode (decimal) in a line of `states`; NFS 3 has no such list. fs/nfsd/nfs4state.c"""

_DELETED_SUFFIX = " (deleted)"
FileId = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    command: str
    """Its arguments joined by spaces, or its name in brackets if it has none; not safe to print."""

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _read_command(pid))


@dataclass(frozen=True, slots=True)
class KernelObject:
    """A kernel user of a file: a loop device, or a client of the NFS server."""

    name: str


FileUser = Process | KernelObject


def find_file_users(files: Collection[FileId], is_candidate: Callable[[str], bool]) -> dict[FileId, FileUser]:
    """One user of each file in use: a process, a loop device, or an NFS 4 client.

    `is_candidate` is called with the name of an open file before the file itself is examined: a stat of an unrelated
    file could hang on a dead server. What this process may not see is not found.
    """
    if not files:
        return {}
    processes = ((file, Process.of(pid)) for pid, _, file in list_open_files(is_candidate))
    users = (*_list_nfs_files(files), *list_loop_files(), *processes)
    return {file: user for file, user in users if file in files}


def _read_command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        if words != [b""]:
            return b" ".join(words).decode("utf-8", "surrogateescape")
        with open(f"/proc/{pid}/comm", "rb") as file:
            return "[" + file.read().strip().decode("utf-8", "surrogateescape") + "]"
    except OSError:
        return "[gone]"


def list_open_files(is_candidate: Callable[[str], bool]) -> Iterator[tuple[int, str, FileId]]:
    """Process, descriptor and file of what other processes have open; `is_candidate` as in `find_file_users`."""
    own_pid = os.getpid()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if pid == own_pid:
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            path = f"/proc/{pid}/fd/{descriptor}"
            try:
                if not is_candidate(read_open_file_name(path)):
                    continue
                status = os.stat(path)
            except OSError:
                continue
            yield pid, descriptor, (status.st_dev, status.st_ino)


def read_open_file_name(path: str) -> str:
    """The name of the file that a link in /proc/PID/fd leads to. Raises OSError."""
    return os.path.basename(os.readlink(path).removesuffix(_DELETED_SUFFIX))


def list_loop_files() -> Iterator[tuple[FileId, KernelObject]]:
    """The files behind loop devices.

    From an ioctl, not the path in sysfs, which no longer leads to the file if it was replaced.
    """
    for name in _list_names("/sys/block"):
        if not name.startswith("loop") or not os.path.exists(f"/sys/block/{name}/loop/backing_file"):
            continue
        try:
            descriptor = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64.size))
        except OSError:
            continue
        finally:
            os.close(descriptor)
        device, inode = _LOOP_INFO64.unpack(status)
        yield (device, inode), KernelObject(f"loop device /dev/{name}")


def _list_nfs_files(files: Collection[FileId]) -> Iterator[tuple[FileId, FileUser]]:
    """A matching inode is enough, since for btrfs the device of NFS differs from that of stat(2): if in doubt, keep."""
    by_inode = {inode: (device, inode) for device, inode in files}
    clients = "/proc/fs/nfsd/clients"
    for client in _list_names(clients):
        try:
            with open(f"{clients}/{client}/states", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        for file_id in parse_nfs_states(text):
            if file_id[1] in by_inode:
                yield by_inode[file_id[1]], KernelObject(f"NFS client {client}")


def parse_nfs_states(text: str) -> list[FileId]:
    """The open files of an nfsd client, from its `states` file."""
    return [
        (os.makedev(int(match[1], 16), int(match[2], 16)), int(match[3])) for match in _NFS_OPEN_FILE.finditer(text)
    ]


def _list_names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
