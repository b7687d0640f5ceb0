"""Snapshots of logical volumes: thin ones, which need no space, and thick ones, which get some of the volume group.

A thick snapshot stores the original of what changes on its origin. If that is more than it can hold, the kernel
invalidates it, and each read of it fails: so data is never inconsistent, and the build ends. lvs(8), lvcreate(8),
lvmthin(7)

Written from the manual pages; tested with fake programs that behave as documented, not with device-mapper.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ltsp.errors import LtspError, SourceError
from ltsp.host import command
from ltsp.host.mounts import Mount
from ltsp.host.system_call import create_mount
from ltsp.source.snapshot import frozen
from ltsp.source.snapshot.frozen import (
    READ_ONLY_MOUNT_FLAGS,
    FrozenMount,
    MountSelection,
    SnapshotBase,
    open_snapshot_root,
    remove_at_exit,
)
from ltsp.tree.name import encode

SNAPSHOT_TAG = "ltsp"
SYSFS = "/sys"
MAPPER_DIRECTORY = "/dev/mapper"
_PACKAGE = "lvm2"
_COLUMNS = ("vg_name", "lv_name", "lv_attr", "lv_size", "vg_free", "vg_extent_size", "snap_percent")
_MOUNT_OPTIONS: Mapping[str, Mapping[bytes, bytes | None]] = {
    # The log of the running file system is replayed into the snapshot, which is therefore writable.
    "ext2": {b"ro": None},
    "ext3": {b"ro": None},
    "ext4": {b"ro": None},
    # XFS otherwise refuses a second file system with the same UUID. xfs(5)
    "xfs": {b"ro": None, b"nouuid": None},
}
"""Mount options for the snapshot of a file system. Not btrfs: it has its own snapshots, and is damaged by a second
file system with the same UUID."""

_SIZE_DIVISOR = 5
"""A thick snapshot gets a fifth of its origin's size, for what changes during a build."""
_MIN_SIZE_DIVISOR = 50
"""With less than a fiftieth, it is not worth trying."""


@dataclass(frozen=True, slots=True)
class LvsVolume:
    """A logical volume, as reported by lvs. Sizes are bytes."""

    group: str
    name: str
    attributes: str
    """Its type and state flags: lvs(8), "Attr"."""
    size: int
    vg_free: int
    """Free space in the group."""
    extent_size: int
    used_percent: float
    """Percentage of a thick snapshot."""

    @classmethod
    def parse(cls, report: bytes) -> list[LvsVolume]:
        """Raises LtspError for an invalid report."""
        try:
            return [
                cls(
                    row["vg_name"],
                    row["lv_name"],
                    row["lv_attr"],
                    int(row["lv_size"]),
                    int(row["vg_free"]),
                    int(row["vg_extent_size"]),
                    float(row["snap_percent"] or 0),
                )
                for row in json.loads(report)["report"][0]["lv"]
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise LtspError("cannot parse the output of lvs") from error

    @property
    def full_name(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def is_thin(self) -> bool:
        return self.attributes[:1] == "V"

    @property
    def is_invalid(self) -> bool:
        """Whether more of the origin changed than the snapshot can hold."""
        return self.attributes[4:5] in ("I", "S") or self.used_percent >= 100

    def snapshot_command(self, name: str) -> Sequence[str]:
        """The command that creates a snapshot.

        Raises SourceError if the group has no room for it.
        """
        words = ["lvcreate", "--yes", "--snapshot", "--name", name, "--addtag", SNAPSHOT_TAG, "--permission", "rw"]
        if self.is_thin:  # thin snapshots are not activated otherwise. lvmthin(7)
            return [*words, "--setactivationskip", "n", self.full_name]
        extents = min(self.size // _SIZE_DIVISOR, self.vg_free) // self.extent_size
        if extents * self.extent_size < self.size // _MIN_SIZE_DIVISOR or not extents:
            raise SourceError(
                f"its group {self.group} has {self.vg_free >> 20} MiB free, but a snapshot of {self.full_name} needs "
                f"at least {max(self.size // _MIN_SIZE_DIVISOR, self.extent_size) >> 20} MiB"
            )
        return [*words, "--extents", str(extents), self.full_name]


def can_snapshot(mount: Mount) -> bool:
    """Whether a mount is a file system on a logical volume that can be mounted a second time."""
    return mount.kind in _MOUNT_OPTIONS and bool(_mapper_name(mount))


def has_thin_volume(mount: Mount) -> bool:
    """Whether a snapshot needs no space of its own: the volume is thin, and the LVM programs are installed."""
    if not can_snapshot(mount) or command.find_program("lvs") is None:
        return False
    try:
        return _find_volume(f"{MAPPER_DIRECTORY}/{_mapper_name(mount)}").is_thin
    except LtspError:
        return False


def check_programs() -> None:
    """Raises LtspError, naming the package, if a program is missing."""
    for program in ("lvs", "lvcreate", "lvremove"):
        if command.find_program(program) is None:
            raise LtspError(f"{program} not found, which an LVM snapshot needs", f"install {_PACKAGE}")


@contextmanager
def take_snapshot(base: SnapshotBase, _wanted: MountSelection) -> Iterator[Sequence[FrozenMount]]:
    """A root to read in place of a mount.

    Raises OSError and LtspError.
    """
    _remove_orphans()
    origin = _find_volume(f"{MAPPER_DIRECTORY}/{_mapper_name(base.mount)}")
    with frozen.reserve_name() as name:
        snapshot = f"{origin.group}/{name}"
        with remove_at_exit(lambda: _remove(origin.group, name)):
            command.run(origin.snapshot_command(name), package=_PACKAGE)

            def invalid_reason() -> str:
                if not _find_volume(snapshot).is_invalid:
                    return ""
                return f"the snapshot of {origin.full_name} overflowed: too much changed while it was being read"

            mount_fd = create_mount(
                base.mount.kind.encode(),
                _device_path(origin.group, name),
                _MOUNT_OPTIONS[base.mount.kind],
                READ_ONLY_MOUNT_FLAGS,
            )
            with open_snapshot_root(mount_fd, base.inner_path, base.root) as root:
                device = os.fstat(base.root.descriptor).st_dev
                yield [FrozenMount(base.path, "lvm", origin.full_name, root, device, invalid_reason=invalid_reason)]


def _device_path(group: str, name: str) -> bytes:
    """The device-mapper path of a volume: hyphens in its names are doubled."""
    doubled = (part.replace("-", "--") for part in (group, name))
    return encode(f"{MAPPER_DIRECTORY}/{'-'.join(doubled)}")


def _mapper_name(mount: Mount) -> str:
    """The device-mapper name of a mount's logical volume; empty if it is not on one."""
    entry = f"{SYSFS}/dev/block/{mount.device[0]}:{mount.device[1]}/dm"
    try:
        with open(f"{entry}/uuid", encoding="ascii") as uuid, open(f"{entry}/name", encoding="ascii") as name:
            return name.read().strip() if uuid.read().startswith("LVM-") else ""
    except OSError:
        return ""


def _list_volumes(selector: str) -> list[LvsVolume]:
    options = ("--reportformat", "json", "--units", "b", "--nosuffix", "--options", ",".join(_COLUMNS))
    return LvsVolume.parse(command.run(["lvs", *options, selector], package=_PACKAGE).stdout)


def _find_volume(path: str) -> LvsVolume:
    found = _list_volumes(path)
    if len(found) != 1:
        raise LtspError(f"lvs does not know {path}")
    return found[0]


def _remove_orphans() -> None:
    """Remove snapshots left by killed runs in any group: they fill up, and slow down writes to their origin."""
    for volume in _list_volumes(f"@{SNAPSHOT_TAG}"):
        with frozen.claim_orphan(volume.name) as is_orphan:
            if is_orphan:
                with suppress(LtspError):  # one that is in use can stay
                    command.run(["lvremove", "--yes", volume.full_name])


def _remove(group: str, name: str) -> None:
    if any((volume.group, volume.name) == (group, name) for volume in _list_volumes(f"@{SNAPSHOT_TAG}")):
        command.run(["lvremove", "--yes", f"{group}/{name}"], package=_PACKAGE)
