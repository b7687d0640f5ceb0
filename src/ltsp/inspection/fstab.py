"""Which other file systems of a disk belong to a system: by its /etc/fstab, and by the types of partitions.

fstab(5); UAPI.2, the Discoverable Partitions Specification; systemd-gpt-auto-generator(8). The root itself is found by
its content, never by a type: a disk may have several. Home directories and server data are not part of an image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.disk.volumes import Volume
from ltsp.inspection.mount_plan import find_exclusion_reason
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

_ESCAPE = re.compile(r"\\([0-7]{3})")
_NOT_LOCAL = frozenset(
    {"swap", "none", "ignore", "tmpfs", "ramfs", "proc", "sysfs", "devpts", "devtmpfs", "efivarfs", "overlay", "autofs"}
)
_PARTITION_NAME = re.compile(r"(?:sd|vd|xvd|hd)([a-z])(\d+)|(?:nvme(\d+)n1|mmcblk(\d+))p(\d+)")
"""Kernel names of partitions, numbered by disk."""


@dataclass(frozen=True, slots=True)
class FstabEntry:
    spec: str
    """The device: `UUID=…`, `/dev/sda2`."""
    path: str
    """The mount point, relative to the root; the root itself is the empty path."""
    kind: str
    options: tuple[str, ...]

    @property
    def subvolume(self) -> str:
        """Of btrfs; empty for the default one."""
        given = (option.removeprefix("subvol=") for option in self.options if option.startswith("subvol="))
        return next(given, "").strip("/")

    @property
    def is_optional(self) -> bool:
        return "nofail" in self.options or "noauto" in self.options


@dataclass(frozen=True, slots=True)
class FstabDevice:
    """A device spec in a form that can be compared."""

    key: str
    """`uuid`, `label`, `partuuid`, `partlabel`, `volume` (GROUP/NAME), `partition` (DISK/NUMBER, from 0 and from 1 on),
    `md`, or `path` for a name that cannot be resolved without the machine."""
    value: str


def parse_fstab(text: str) -> list[FstabEntry]:
    """The entries; invalid lines are skipped, as by mount(8)."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        spec, path, kind, *rest = (_ESCAPE.sub(_unescape_octal, each) for each in fields)
        if path.startswith("/"):
            names = [name for name in path.split("/") if name not in ("", ".")]
            if ".." not in names:
                found.append(FstabEntry(spec, "/".join(names), kind, tuple(rest[0].split(",")) if rest else ()))
    return found


def parse_crypttab(text: str) -> dict[str, str]:
    """Encrypted volumes, keyed by the /dev/mapper path of their unlocked content."""
    lines = (line.split() for line in text.splitlines())
    return {f"/dev/mapper/{line[0]}": line[1] for line in lines if len(line) > 1 and not line[0].startswith("#")}


def parse_system_entries(text: str) -> list[FstabEntry]:
    """The entries that are part of the system, parents first, without the root."""
    found: dict[str, FstabEntry] = {}
    for entry in parse_fstab(text):
        is_local = entry.kind not in _NOT_LOCAL and "bind" not in entry.options and not entry.kind.startswith("nfs")
        if entry.path and is_local and not find_exclusion_reason(entry.path):
            found[entry.path] = entry
    return [found[path] for path in sorted(found)]


def parse_device(spec: str) -> FstabDevice:
    """The device that a spec names. fstab(5), udev's 60-persistent-storage.rules"""
    tag, equals, value = spec.partition("=")
    if equals and tag.lower() in {"uuid", "label", "partuuid", "partlabel"}:
        text = value.strip("\"'")
        return FstabDevice(tag.lower(), text.lower() if tag.lower().endswith("uuid") else text)
    if match := re.fullmatch(r"/dev/disk/by-(uuid|label|partuuid|partlabel)/(.+)", spec):
        text = _unescape_udev(match[2])
        return FstabDevice(match[1], text.lower() if match[1].endswith("uuid") else text)
    if match := re.fullmatch(r"/dev/mapper/(.+)", spec):
        group, dash, name = _split_mapper_name(match[1])
        return FstabDevice("volume", f"{group}/{name}") if dash else FstabDevice("path", spec)
    if match := re.fullmatch(r"/dev/md(?:/|_?d?)(.+)", spec):
        return FstabDevice("md", match[1])
    if match := re.fullmatch(r"/dev/([^/]+)", spec):
        if part := _PARTITION_NAME.fullmatch(match[1]):
            disk = ord(part[1]) - ord("a") if part[1] else int(part[3] or part[4])
            return FstabDevice("partition", f"{disk}/{part[2] or part[5]}")
        return FstabDevice("path", spec)
    if match := re.fullmatch(r"/dev/([^/]+)/([^/]+)", spec):
        return FstabDevice("volume", f"{match[1]}/{match[2]}")
    return FstabDevice("path", spec)


def _split_mapper_name(name: str) -> tuple[str, str, str]:
    """The group and volume in a device-mapper name, in which their hyphens are doubled. lvm(8)"""
    match = re.fullmatch(r"((?:[^-]|--)+)-((?:[^-]|--)+)", name)
    return (match[1].replace("--", "-"), "-", match[2].replace("--", "-")) if match else (name, "", "")


def _unescape_octal(match: re.Match[str]) -> str:
    return chr(int(match[1], 8) & 0xFF)


def _unescape_udev(text: str) -> str:
    r"""Decode the name of a udev link, which has \x20 for a blank."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)


_ESP_TYPE: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_DISCOVERABLE_TYPES: Final[tuple[tuple[str, str, str], ...]] = (
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "boot", "an extended boot loader partition"),
    (_ESP_TYPE, "efi", "an EFI system partition"),
    (_ESP_TYPE, "boot", "an EFI system partition"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "var", "a partition for /var"),
    ("75250d76-8cc6-458e-bd66-bd47cc81a812", "usr", "a partition for /usr of x86"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "usr", "a partition for /usr of x86-64"),
    ("7d0359a3-02b3-4f0a-865c-654403e70625", "usr", "a partition for /usr of ARM"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "usr", "a partition for /usr of ARM-64"),
    ("beaec34b-8442-439b-a40b-984381ed097d", "usr", "a partition for /usr of RISC-V-64"),
)
"""Type, mount point and description, in mount order; each partition is used once."""
MOUNT_POINTS: Final = frozenset(mount_point for _, mount_point, _ in _DISCOVERABLE_TYPES)
"""Directories to check: one with entries is not mounted over."""


@dataclass(frozen=True, slots=True)
class DiscoveredPartition:
    path: str
    number: int
    """Index of the volume among all."""
    reason: str


def discover_partitions(
    volumes: Sequence[Volume], root: Volume, tree: Tree, fstab_paths: Collection[str]
) -> Iterator[DiscoveredPartition]:
    """Partitions of the same disk that belong to a root file system but are not in its fstab, parents first.

    `tree` has at least the names in the directories of `MOUNT_POINTS`.
    """
    used_volumes: set[int] = set()
    mounted = set(fstab_paths)
    for kind, mount_point, what in _DISCOVERABLE_TYPES:
        directory = tree.get(mount_point)
        if mount_point in mounted or not isinstance(directory, Directory) or directory.entries:
            continue
        for number, volume in enumerate(volumes):
            is_other = volume is not root and number not in used_volumes and volume.disk == root.disk
            if is_other and volume.number and volume.type == kind:
                used_volumes.add(number)
                mounted.add(mount_point)
                yield DiscoveredPartition(mount_point, number, f"{what}, according to its type")
                break
