"""A range of an open file as a block device. Linux include/uapi/linux/loop.h

The kernel frees the device (LO_FLAGS_AUTOCLEAR) when it is no longer open or mounted, so that a kill leaves none
behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_TRIES = 64
"""Another process may take the free device; so many times in a row is not a coincidence."""

_INFO = struct.Struct("=5Q4I64s64s32s2Q")
"""struct loop_info64: among others offset and size limit in bytes (the fourth and fifth), and flags (the ninth)."""
_CONFIG = struct.Struct(f"=II{_INFO.size}s64x")
"""struct loop_config: descriptor, block size (0: the usual), loop_info64."""


@contextmanager
def attach(descriptor: int, offset: int, size: int, *, writable: bool = False) -> Iterator[str]:
    """The path of a device for `size` bytes of the file from `offset`, a multiple of 512.

    The block may end once the device is mounted. Raises OSError: EPERM or EACCES without the privilege, ENOENT if the
    machine has no loop devices.
    """
    flags = _AUTOCLEAR if writable else _AUTOCLEAR | _READ_ONLY
    info = _INFO.pack(0, 0, 0, offset, size, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    config = _CONFIG.pack(descriptor, 0, info)
    device, path = _configure_free_device(config)
    try:
        yield path
    finally:
        os.close(device)


def _configure_free_device(config: bytes) -> tuple[int, str]:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _CONTROL)
