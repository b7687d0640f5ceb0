"""Subvolumes of btrfs through ioctls: the one of a directory, those nested in it, and snapshots.

Subvolume numbers are those of their trees. Structures and ioctl numbers: linux/btrfs.h. Raises OSError as the kernel
does; only `create_snapshot` and `remove_subvolume` change anything.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl

TOP_LEVEL_SUBVOLUME = 5
"""The top-level subvolume. BTRFS_FS_TREE_OBJECTID"""
_ROOT_INODE = 256
"""The inode of the root directory in each subvolume. BTRFS_FIRST_FREE_OBJECTID"""

_SNAP_DESTROY = 0x5000940F
_INO_LOOKUP = 0xD0009412
_SNAP_CREATE_V2 = 0x50009417
_DEV_INFO = 0xD000941E
_FS_INFO = 0x8400941F
_GET_SUBVOL_ROOTREF = 0xD000943D
_INO_LOOKUP_USER = 0xD000943E
_SUBVOL_RDONLY = 1 << 1

_VOL_ARGS = struct.Struct("=q4088s")
_VOL_ARGS_V2 = struct.Struct("=qQQ32x4040s")
_INO_LOOKUP_ARGS = struct.Struct("=QQ4080s")
_ROOTREF_ARGS = struct.Struct("=Q4080sB7x")
_ROOTREF = struct.Struct("=QQ")
_LOOKUP_USER_ARGS = struct.Struct("=QQ256s3824s")
_FS_INFO_ARGS = struct.Struct("=QQ16s992x")
_DEV_INFO_ARGS = struct.Struct("=Q16s3048x1024s")


@dataclass(frozen=True, slots=True)
class SubvolumePath:
    """The location of a directory."""

    subvolume_id: int
    path: bytes
    """Relative to the subvolume's root, without leading or trailing slashes."""


@dataclass(frozen=True, slots=True)
class NestedSubvolume:
    """A nested subvolume."""

    subvolume_id: int
    path: bytes
    """Relative to the root of the subvolume that contains it."""


def find_subvolume(directory: int) -> SubvolumePath:
    """The subvolume of an open directory. EPERM unless root."""
    inode = os.fstat(directory).st_ino
    tree, _, path = _INO_LOOKUP_ARGS.unpack(_call_ioctl(directory, _INO_LOOKUP, _INO_LOOKUP_ARGS.pack(0, inode, b"")))
    return SubvolumePath(tree, b"" if inode == _ROOT_INODE else _c_string(path).strip(b"/"))


def list_nested_subvolumes(root: int) -> Iterator[NestedSubvolume]:
    """The subvolumes directly in the one whose root is open, sorted by number. ENOTTY before Linux 4.18"""
    min_subvolume, has_more = 0, True
    while has_more:
        answer = bytearray(_ROOTREF_ARGS.pack(min_subvolume, b"", 0))
        try:
            ioctl(root, _GET_SUBVOL_ROOTREF, answer)
            has_more = False
        except OSError as error:
            if error.errno != errno.EOVERFLOW:  # the buffer is full, and there are more
                raise
        min_subvolume, references, count = _ROOTREF_ARGS.unpack(answer)
        for number, directory in _ROOTREF.iter_unpack(references[: count * _ROOTREF.size]):
            try:
                location = _call_ioctl(root, _INO_LOOKUP_USER, _LOOKUP_USER_ARGS.pack(directory, number, b"", b""))
            except FileNotFoundError:  # removed in the meantime
                continue
            _, _, name, path = _LOOKUP_USER_ARGS.unpack(location)
            yield NestedSubvolume(number, _c_string(path) + _c_string(name))


def create_snapshot(root: int, directory: int, name: bytes) -> None:
    """Create a read-only snapshot of the subvolume whose root is open, in a directory of the same btrfs.

    ETXTBSY: it contains an active swap file.
    """
    _call_ioctl(directory, _SNAP_CREATE_V2, _VOL_ARGS_V2.pack(root, 0, _SUBVOL_RDONLY, name))


def remove_subvolume(directory: int, name: bytes) -> None:
    """Remove a subvolume. Open files can still be read; its blocks are freed in the background."""
    _call_ioctl(directory, _SNAP_DESTROY, _VOL_ARGS.pack(0, name))


def read_uuid(directory: int) -> bytes:
    """The file system's UUID."""
    uuid: bytes = _FS_INFO_ARGS.unpack(_call_ioctl(directory, _FS_INFO, bytes(_FS_INFO_ARGS.size)))[2]
    return uuid


def list_devices(directory: int) -> Iterator[bytes]:
    """The paths of the file system's devices, as known to the kernel."""
    max_device_id = _FS_INFO_ARGS.unpack(_call_ioctl(directory, _FS_INFO, bytes(_FS_INFO_ARGS.size)))[0]
    for number in range(1, max_device_id + 1):
        try:
            answer = _call_ioctl(directory, _DEV_INFO, _DEV_INFO_ARGS.pack(number, b"", b""))
        except FileNotFoundError:  # numbers of removed devices are not reused
            continue
        yield _c_string(_DEV_INFO_ARGS.unpack(answer)[2])


def _call_ioctl(descriptor: int, request: int, argument: bytes) -> bytes:
    answer = bytearray(argument)
    ioctl(descriptor, request, answer)
    return bytes(answer)


def _c_string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
