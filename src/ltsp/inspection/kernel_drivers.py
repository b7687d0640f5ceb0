"""File systems that the kernel mounts from a device, and with what options; whether this kernel does is its to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ltsp.disk import probe

Options = Mapping[str, str | None]
"""None stands for a flag."""


@dataclass(frozen=True, slots=True)
class Driver:
    name: str
    """As in /proc/filesystems."""
    options: Options = field(default_factory=dict)


_NAMED_ALIKE: Final = (
    *(probe.BTRFS, probe.EROFS, probe.SQUASHFS, probe.ISO9660, probe.VFAT),
    *("bcachefs", "f2fs", "jfs", "nilfs2", "reiserfs", "udf"),
)
_DRIVERS: Final[Mapping[str, Driver]] = {
    # A superblock may say that the machine is to panic when something is damaged. ext4(5), errors
    probe.EXT: Driver("ext4", {"errors": "continue"}),
    # One with the same UUID may be mounted: that of the machine which this disk is a copy of. xfs(5), nouuid
    probe.XFS: Driver("xfs", {"nouuid": None}),
    **{name: Driver(name) for name in _NAMED_ALIKE},
}
"""By what a volume holds, as `ltsp.disk.probe` calls it. Nobody has a Linux system on ntfs or exfat, and what is not
mounted does no harm.
"""
NAMES: Final = {"ext2": probe.EXT, "ext3": probe.EXT, "ext4": probe.EXT}
"""As fstype= says it."""


def find_driver(kind: str, fstype: str = "") -> Driver | None:
    """Of what is in a volume, or of what the user says; None for no file system."""
    return _DRIVERS.get(kind if fstype in ("", "auto") else NAMES.get(fstype, fstype))
