"""Block devices: the one under a file system, from sysfs, and loop devices, which make one of a range of a file.

The kernel frees a loop device (LO_FLAGS_AUTOCLEAR) when it is no longer open or mounted, so that a kill leaves none
behind. Linux include/uapi/linux/loop.h
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.host.mounts import Mount


@dataclass(frozen=True, slots=True)
class BlockDevice:
    is_removable: bool = False
    """A USB stick, a card or a disc: a medium that can be taken out of its drive."""
    is_loop: bool = False
    """A file in another file system, through a loop device."""


def find_block_device(mount: Mount, sysfs: str = "/sys") -> BlockDevice:
    """The device of a mount; a volume on several devices is removable if one of them is."""
    is_removable = is_loop = False
    pending = [_device_number(mount)]
    while pending:
        entry = f"{sysfs}/dev/block/{pending.pop()}"
        disk = f"{entry}/.." if os.path.exists(f"{entry}/partition") else entry
        is_removable |= _read_text(f"{disk}/removable") == "1"
        is_loop |= os.path.exists(f"{disk}/loop")
        pending += [_read_text(f"{entry}/slaves/{slave}/dev") for slave in _list_names(f"{entry}/slaves")]
    return BlockDevice(is_removable, is_loop)


def _device_number(mount: Mount) -> str:
    """`major:minor`; for btrfs, whose number is anonymous, that of the mount source."""
    major, minor = mount.device
    if major == 0 and mount.source.startswith(b"/dev/"):
        try:
            status = os.stat(mount.source)
        except OSError:
            pass
        else:
            if stat.S_ISBLK(status.st_mode):
                major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return f"{major}:{minor}"


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _list_names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


_LOOP_CONTROL = "/dev/loop-control"
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY, _LO_FLAGS_AUTOCLEAR = 1, 4
_MAX_TRIES = 64
"""Another process may take the free device; so many times in a row is not a coincidence."""

_LOOP_INFO64 = struct.Struct("=5Q4I64s64s32s2Q")
"""struct loop_info64: among others offset and size limit in bytes (the fourth and fifth), and flags (the ninth)."""
_LOOP_CONFIG = struct.Struct(f"=II{_LOOP_INFO64.size}s64x")
"""struct loop_config: descriptor, block size (0: the usual), loop_info64."""


@contextmanager
def attach_loop_device(descriptor: int, offset: int, size: int, *, writable: bool = False) -> Iterator[str]:
    """The path of a device for `size` bytes of the file from `offset`, a multiple of 512.

    The block may end once the device is mounted. Raises OSError: EPERM or EACCES without the privilege, ENOENT if the
    machine has no loop devices.
    """
    flags = _LO_FLAGS_AUTOCLEAR if writable else _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_READ_ONLY
    info = _LOOP_INFO64.pack(0, 0, 0, offset, size, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    config = _LOOP_CONFIG.pack(descriptor, 0, info)
    device, path = _configure_free_device(config)
    try:
        yield path
    finally:
        os.close(device)


def _configure_free_device(config: bytes) -> tuple[int, str]:
    control = os.open(_LOOP_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_MAX_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _LOOP_CONTROL)
