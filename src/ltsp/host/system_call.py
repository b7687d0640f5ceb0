"""System calls that Python does not provide: to open, to mount, to exchange names, to start writeback.

Thin wrappers: numbers and records in, a descriptor or number out, OSError from the kernel. The caller handles calls
that are unavailable (old kernels, seccomp filters of containers).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_syscall = _libc.syscall

# The same on every architecture, from number 424. arch/x86/entry/syscalls/syscall_64.tbl
_OPEN_TREE = ctypes.c_long(428)
_FSOPEN = ctypes.c_long(430)
_FSCONFIG = ctypes.c_long(431)
_FSMOUNT = ctypes.c_long(432)
_OPENAT2 = ctypes.c_long(437)

# openat2(2): how a path is resolved.
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# Attributes of a mount. linux/mount.h
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10

# Flags of mount(2).
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000

AT_FDCWD = -100
_CLONE_NEWNS = 0x20000
_CLONE_NEWIPC = 0x8000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_RENAME_EXCHANGE = 0x2
_SYNC_FILE_RANGE_WRITE = 0x2
_OPEN_TREE_CLONE = 0x1
_FSOPEN_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 0x1
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3, of which the data are two words of each set. linux/capability.h"""

_LANDLOCK_CREATE_RULESET = ctypes.c_long(444)
_LANDLOCK_RESTRICT_SELF = ctypes.c_long(446)
_LANDLOCK_QUERY_VERSION = ctypes.c_uint32(1)
"""LANDLOCK_CREATE_RULESET_VERSION: queries the version."""
_LANDLOCK_FILE_RIGHTS = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
"""File access rights of each version, from 1; the last also applies to later ones. linux/landlock.h"""
_LANDLOCK_TCP_RIGHTS, _LANDLOCK_SCOPES = 0x3, 0x3
"""To bind and connect, since version 4; abstract sockets and signals to others, since version 6."""


class OpenHow(ctypes.Structure):
    """struct open_how. linux/openat2.h"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_OPEN_HOW_SIZE = ctypes.c_size_t(ctypes.sizeof(OpenHow))


def openat2(directory: int, path: bytes, how: OpenHow) -> int:
    """A descriptor. EAGAIN means that a rename or mount raced with a `..`: the caller tries again."""
    descriptor: int = _syscall(_OPENAT2, ctypes.c_int(directory), path, ctypes.byref(how), _OPEN_HOW_SIZE)
    if descriptor < 0:
        raise _os_error()
    return descriptor


def clone_mount(directory: int, path: bytes = b"") -> int:
    """An O_PATH descriptor of a private copy of the mount that contains the path, without the mounts below it.

    The path is the copy's root. The copy is in no mount namespace and vanishes when its descriptor is closed.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    descriptor: int = _syscall(_OPEN_TREE, ctypes.c_int(directory), path, ctypes.c_uint(flags))
    if descriptor < 0:
        raise _os_error()
    return descriptor


def create_mount(kind: bytes, source: bytes, options: Mapping[bytes, bytes | None], attributes: int) -> int:
    """An O_PATH descriptor of the root of a new mount, which is in no mount namespace and vanishes with it.

    An option without a value is a flag. Linux 5.2; for file systems that support only mount(2), the kernel joins the
    options.
    """
    context: int = _syscall(_FSOPEN, kind, ctypes.c_uint(_FSOPEN_CLOEXEC))
    if context < 0:
        raise _os_error()
    try:
        _fsconfig(context, _FSCONFIG_SET_STRING, b"source", source)
        for name, value in options.items():
            _fsconfig(context, _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING, name, value)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None)
        mounted: int = _syscall(_FSMOUNT, *map(ctypes.c_uint, (context, _FSMOUNT_CLOEXEC, attributes)))
        if mounted < 0:
            raise _os_error()
        return mounted
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, name: bytes | None, value: bytes | None) -> None:
    if _syscall(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(command), name, value, ctypes.c_int(0)) < 0:
        raise _os_error()


_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC_STATS = 0x7FF
_STATX_MNT_ID = 0x1000

# Attributes of struct statx. linux/stat.h
STATX_ATTR_IMMUTABLE = 0x10
STATX_ATTR_APPEND = 0x20
STATX_ATTR_MOUNT_ROOT = 0x2000


class _Timestamp(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("spare", ctypes.c_int32))


class Statx(ctypes.Structure):
    """struct statx. linux/stat.h"""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("links", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("spare", ctypes.c_uint16),
        ("inode", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("atime", _Timestamp),
        ("birth", _Timestamp),
        ("ctime", _Timestamp),
        ("mtime", _Timestamp),
        ("special_major", ctypes.c_uint32),
        ("special_minor", ctypes.c_uint32),
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("mount_id", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 13),
    )


def statx(directory: int, name: bytes) -> Statx:
    """The cached attributes of the name, or of the directory itself if the name is empty.

    No server is contacted, nothing is mounted on demand, and symbolic links are not followed.
    """
    record = Statx()
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC | _AT_EMPTY_PATH
    mask = _STATX_BASIC_STATS | _STATX_MNT_ID
    if _libc.statx(directory, name, flags, ctypes.c_uint(mask), ctypes.byref(record)) < 0:
        raise _os_error()
    return record


def mount_id(descriptor: int) -> int | None:
    """The ID of the descriptor's mount, as in mountinfo; None before Linux 5.8."""
    try:
        record = statx(descriptor, b"")
    except OSError as error:
        if is_unavailable(error):
            return None
        raise
    return int(record.mount_id) if record.mask & _STATX_MNT_ID else None


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), data) < 0:
        raise _os_error(target)


def supports_file_handles(path: bytes) -> bool:
    """Whether the file system supports file handles, which NFS needs. name_to_handle_at(2)"""
    room, mount = ctypes.c_uint(0), ctypes.c_int()  # a struct file_handle without room for the handle
    if _libc.name_to_handle_at(AT_FDCWD, path, ctypes.byref(room), ctypes.byref(mount), 0) >= 0:
        return True
    number = ctypes.get_errno()
    if number not in {errno.EOVERFLOW, errno.EOPNOTSUPP}:
        raise _os_error(path)
    return number == errno.EOVERFLOW


def unshare_mount_namespace() -> None:
    """Give this process (and its future threads and children) a private mount namespace."""
    if _libc.unshare(_CLONE_NEWNS) < 0:
        raise _os_error()


def enter_mount_namespace(namespace: int) -> None:
    """Move this thread into the mount namespace of a descriptor, and to its root. setns(2)"""
    if _libc.setns(namespace, _CLONE_NEWNS) < 0:
        raise _os_error()


def unshare_network_namespace() -> None:
    """Give this thread (and its future threads and children) a private network namespace."""
    if _libc.unshare(_CLONE_NEWNET) < 0:
        raise _os_error()


def enter_network_namespace(namespace: int) -> None:
    """Move this thread into the network namespace of a descriptor. setns(2)"""
    if _libc.setns(namespace, _CLONE_NEWNET) < 0:
        raise _os_error()


def set_no_new_privs() -> None:
    """Future programs of this process gain no privileges by setuid or file capabilities. prctl(2)"""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) < 0:
        raise _os_error()


def unshare_network_and_ipc_namespaces(*, with_user: bool = False) -> None:
    """Like `unshare_network_namespace`, plus an IPC namespace. A user namespace requires a single-threaded process."""
    if _libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC | (_CLONE_NEWUSER if with_user else 0)) < 0:
        raise _os_error()


def drop_capabilities() -> None:
    """Drop all capabilities of this thread. capset(2)"""
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) < 0:
        raise _os_error()


def set_parent_death_signal(number: int) -> None:
    """Request this signal for when the thread that started us ends. prctl(2)"""
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number)) < 0:
        raise _os_error()


def restrict_with_landlock() -> None:
    """Deny this thread opening files, connecting and sending signals, as far as Landlock supports it. landlock(7)

    Requires `set_no_new_privs`. Open descriptors keep their rights.
    """
    version = _syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_QUERY_VERSION)
    if version < 1:
        raise _os_error()
    files = _LANDLOCK_FILE_RIGHTS[min(version, len(_LANDLOCK_FILE_RIGHTS) - 1)]
    denied = (ctypes.c_uint64 * 3)(
        files, _LANDLOCK_TCP_RIGHTS if version >= 4 else 0, _LANDLOCK_SCOPES if version >= 6 else 0
    )
    rules = _syscall(_LANDLOCK_CREATE_RULESET, denied, ctypes.c_size_t(ctypes.sizeof(denied)), ctypes.c_uint32(0))
    if rules < 0:
        raise _os_error()
    try:
        if _syscall(_LANDLOCK_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) < 0:
            raise _os_error()
    finally:
        os.close(rules)


def exchange(first: bytes, second: bytes) -> None:
    """Swap two names atomically; EINVAL or ENOSYS if the file system or kernel does not support it. renameat2(2)"""
    here = ctypes.c_int(AT_FDCWD)
    if _libc.renameat2(here, first, here, second, ctypes.c_uint(_RENAME_EXCHANGE)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(first), None, os.fsdecode(second))


def start_writeback(descriptor: int, offset: int, size: int) -> None:
    """Start writing `size` bytes to the disk, without waiting. sync_file_range(2)"""
    start, length = ctypes.c_int64(offset), ctypes.c_int64(size)
    if _libc.sync_file_range(descriptor, start, length, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)) < 0:
        raise _os_error()


def _os_error(path: bytes = b"") -> OSError:
    number = ctypes.get_errno()
    text = os.strerror(number)
    return OSError(number, text, path) if path else OSError(number, text)


def is_unavailable(error: OSError) -> bool:
    """Whether the kernel lacks the call, or a seccomp filter denies it, with EPERM or ENOSYS."""
    return error.errno in (errno.ENOSYS, errno.EPERM)
