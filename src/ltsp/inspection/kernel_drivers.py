"""File systems that Linux can mount from a device, and the options for it; the running kernel may support fewer."""

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
    # A superblock may request a kernel panic on damage. ext4(5), errors
    probe.EXT: Driver("ext4", {"errors": "continue"}),
    # A file system with the same UUID may be mounted, if the disk is a copy of this machine's. xfs(5), nouuid
    probe.XFS: Driver("xfs", {"nouuid": None}),
    **{name: Driver(name) for name in _NAMED_ALIKE},
}
"""By the kind of a volume in `ltsp.disk.probe`. Not ntfs or exfat: Linux is not installed on them, and what is not
mounted can do no harm.
"""
KINDS_BY_FSTYPE: Final = {"ext2": probe.EXT, "ext3": probe.EXT, "ext4": probe.EXT}
"""Values of fstype= that differ from the kind in `ltsp.disk.probe`."""


def find_driver(kind: str, fstype: str = "") -> Driver | None:
    """The driver for the kind of a volume, or for the user's fstype; None if there is none."""
    return _DRIVERS.get(kind if fstype in ("", "auto") else KINDS_BY_FSTYPE.get(fstype, fstype))
