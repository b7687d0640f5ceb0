"""Subvolumes of btrfs, by the calls of the kernel itself: what a directory lies in, what is nested, and snapshots.

Numbers of subvolumes are those of their trees. Structures and numbers of calls: linux/btrfs.h. OSError as the kernel
gives it; all but `create_snapshot` and `remove_subvolume` change nothing.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl

TOP = 5
"""The subvolume that every other one lies in. BTRFS_FS_TREE_OBJECTID"""
_ROOT_INODE = 256
"""Of the first directory in each subvolume. BTRFS_FIRST_FREE_OBJECTID"""

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
    """Where a directory lies."""

    subvolume: int
    path: bytes
    """From the subvolume's own root, without slashes around it."""


@dataclass(frozen=True, slots=True)
class NestedSubvolume:
    """A subvolume in another one."""

    subvolume: int
    path: bytes
    """From the root of the one that it is nested in."""


def find_subvolume(directory: int) -> SubvolumePath:
    """The subvolume of a directory that is open. Only root may ask: EPERM."""
    inode = os.fstat(directory).st_ino
    tree, _, path = _INO_LOOKUP_ARGS.unpack(_call_ioctl(directory, _INO_LOOKUP, _INO_LOOKUP_ARGS.pack(0, inode, b"")))
    return SubvolumePath(tree, b"" if inode == _ROOT_INODE else _c_string(path).strip(b"/"))


def list_nested(root: int) -> Iterator[NestedSubvolume]:
    """The subvolumes directly in the one whose root is open, in the order of their numbers. ENOTTY before Linux 4.18"""
    least, more = 0, True
    while more:
        answer = bytearray(_ROOTREF_ARGS.pack(least, b"", 0))
        try:
            ioctl(root, _GET_SUBVOL_ROOTREF, answer)
            more = False
        except OSError as error:
            if error.errno != errno.EOVERFLOW:  # that is as many as there is room for, and there are more
                raise
        least, found, count = _ROOTREF_ARGS.unpack(answer)
        for number, directory in _ROOTREF.iter_unpack(found[: count * _ROOTREF.size]):
            try:
                place = _call_ioctl(root, _INO_LOOKUP_USER, _LOOKUP_USER_ARGS.pack(directory, number, b"", b""))
            except FileNotFoundError:  # removed since
                continue
            _, _, name, path = _LOOKUP_USER_ARGS.unpack(place)
            yield NestedSubvolume(number, _c_string(path) + _c_string(name))


def create_snapshot(root: int, directory: int, name: bytes) -> None:
    """Make a snapshot that cannot be written to, of the subvolume whose root is open, in a directory of the same btrfs.

    ETXTBSY: it holds a swap file that is in use.
    """
    _call_ioctl(directory, _SNAP_CREATE_V2, _VOL_ARGS_V2.pack(root, 0, _SUBVOL_RDONLY, name))


def remove_subvolume(directory: int, name: bytes) -> None:
    """Remove a subvolume. What of it is open can still be read; its blocks are freed in the background."""
    _call_ioctl(directory, _SNAP_DESTROY, _VOL_ARGS.pack(0, name))


def read_uuid(directory: int) -> bytes:
    """The file system's UUID."""
    uuid: bytes = _FS_INFO_ARGS.unpack(_call_ioctl(directory, _FS_INFO, bytes(_FS_INFO_ARGS.size)))[2]
    return uuid


def list_devices(directory: int) -> Iterator[bytes]:
    """The paths of the devices that the file system lies on, as the kernel was told them."""
    most = _FS_INFO_ARGS.unpack(_call_ioctl(directory, _FS_INFO, bytes(_FS_INFO_ARGS.size)))[0]
    for number in range(1, most + 1):
        try:
            answer = _call_ioctl(directory, _DEV_INFO, _DEV_INFO_ARGS.pack(number, b"", b""))
        except FileNotFoundError:  # numbers of devices that were removed are not given again
            continue
        yield _c_string(_DEV_INFO_ARGS.unpack(answer)[2])


def _call_ioctl(descriptor: int, call: int, question: bytes) -> bytes:
    answer = bytearray(question)
    ioctl(descriptor, call, answer)
    return bytes(answer)


def _c_string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
