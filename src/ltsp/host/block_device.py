"""The device under a file system, from sysfs: a removable medium, a file, or neither."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from ltsp.host.mount_table import Mount


@dataclass(frozen=True, slots=True)
class BlockDevice:
    removable: bool = False
    """A USB stick, a card or a disc: a medium that can be taken out of its drive."""
    loop: bool = False
    """A file in another file system, through a loop device."""


def find_block_device(mount: Mount, sysfs: str = "/sys") -> BlockDevice:
    """The device of a mount; a volume on several devices is removable if one of them is."""
    removable = loop = False
    pending = [_device_number(mount)]
    while pending:
        entry = f"{sysfs}/dev/block/{pending.pop()}"
        disk = f"{entry}/.." if os.path.exists(f"{entry}/partition") else entry
        removable |= _read_text(f"{disk}/removable") == "1"
        loop |= os.path.exists(f"{disk}/loop")
        pending += [_read_text(f"{entry}/slaves/{slave}/dev") for slave in _list_names(f"{entry}/slaves")]
    return BlockDevice(removable, loop)


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
