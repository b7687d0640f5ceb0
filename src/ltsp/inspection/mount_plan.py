"""Decides which file systems mounted in a source belong to the image, from the mount table alone.

Local file systems that are part of the system are included. User data, network file systems and those that exist only
while the machine is running are left out, and never accessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ltsp.host.block_device import BlockDevice
from ltsp.host.mounts import Mount
from ltsp.tree.name import decode

_NETWORK_TYPES = frozenset(
    {"9p", "afs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"}
    | {"smb3", "smbfs", "vboxsf", "virtiofs"}
)
_IMAGE_TYPES = frozenset({"cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"})
_OVERLAY_TYPES = frozenset({"aufs", "overlay", "unionfs"})
_POOL_TYPES = frozenset({"bcachefs", "btrfs", "zfs"})
"""Local file systems that can span several disks, and so have an anonymous device number."""

_SYSTEM_DIRECTORIES = frozenset(
    {"bin", "boot", "efi", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr", "var"}
)
"""Top-level directories that hold the system. hier(7)"""
_VITAL_DIRECTORIES = _SYSTEM_DIRECTORIES - {"efi", "opt"}
_STANDARD_MOUNT_POINTS = _SYSTEM_DIRECTORIES | {
    "boot/efi",
    "boot/firmware",
    "usr/local",
    "var/cache",
    "var/lib",
    "var/log",
    "var/spool",
}
"""Mount points that a distribution's installer or manual names."""
_DATA_DIRECTORIES = {
    "home": "home directories",
    "var/home": "home directories",
    "root": "a home directory",
    "srv": "data that this machine serves",
    "media": "removable media",
    "mnt": "temporary mounts",
    "var/lib/containerd": "containers",
    "var/lib/containers": "containers",
    "var/lib/docker": "containers",
    "var/lib/incus": "containers",
    "var/lib/kubelet": "containers",
    "var/lib/libvirt": "virtual machines",
    "var/lib/lxc": "containers",
    "var/lib/lxd": "containers",
    "var/lib/machines": "containers",
    "var/lib/snapd": "snaps, which are separate images",
}

_OSTREE_BIND_ROOT = re.compile(rb"(/[^/]+)*/ostree/deploy/[^/]+/(var|deploy/[^/]+/(usr|etc))")
"""Bind mounts of a running ostree deployment at /var, /usr and /etc. ostree, src/switchroot/ostree-prepare-root.c"""

_DAEMON_TYPE_PREFIXES = ("autofs", "fuse")
"""Prefixes of file system types that are served by a daemon; those in `_NETWORK_TYPES` are served over the network."""


@dataclass(frozen=True, slots=True)
class MountDecision:
    """Whether one mount is included, and why."""

    path: str
    """The mount point, relative to the root of the source."""
    mount: Mount
    included: bool
    reason: str

    @property
    def description(self) -> str:
        return describe_mount(self.mount)

    @property
    def may_hang(self) -> bool:
        """Whether even a stat of the mount point contacts a server or daemon that may not respond."""
        return self.mount.kind in _NETWORK_TYPES or self.mount.kind.startswith(_DAEMON_TYPE_PREFIXES)

    @property
    def is_vital(self) -> bool:
        """Whether the system is incomplete without it."""
        return is_vital(self.path)


def describe_mount(mount: Mount) -> str:
    """The file system and its device, for people; not safe to print."""
    source = decode(mount.source)
    return mount.kind if source in ("", "none", mount.kind) else f"{mount.kind} on {source}"


def decide_mounts(
    mounts: Mapping[bytes, Mount], find_medium: Callable[[Mount], BlockDevice], subdir: str = ""
) -> list[MountDecision]:
    """A decision for each mount, parents first; mounts below one that is left out have none.

    `subdir` is the path of the source in the system.
    """
    decisions: list[MountDecision] = []
    left_out: set[str] = set()
    for point, mount in sorted(mounts.items()):
        path = decode(point)
        if any(above in left_out for above in _list_parents(path)):
            continue
        objection = _find_objection(f"{subdir}/{path}" if subdir else path, mount, find_medium)
        if objection:
            left_out.add(path)
        decisions.append(MountDecision(path, mount, included=not objection, reason=objection or "part of the system"))
    return decisions


def _find_objection(path: str, mount: Mount, find_medium: Callable[[Mount], BlockDevice]) -> str:
    """Why the mount is left out; empty if it is included."""
    if reason := _find_type_objection(mount) or find_exclusion_reason(path):
        return reason
    if mount.kind in _OVERLAY_TYPES:
        # systemd-sysext and overlayroot mount one over a system directory; containers have theirs elsewhere.
        return "" if path in _STANDARD_MOUNT_POINTS else "an overlay"
    if mount.root != _full_root(mount) and not _OSTREE_BIND_ROOT.fullmatch(mount.root):
        return f"a bind mount of {decode(mount.root)}"
    medium = find_medium(mount)
    if medium.is_removable:
        return "on a removable medium"
    if medium.is_loop and path not in _STANDARD_MOUNT_POINTS:
        return "an image file"
    return ""


def _find_type_objection(mount: Mount) -> str:
    kind = mount.kind
    if kind in _NETWORK_TYPES:
        return "a network file system"
    if kind == "autofs":
        return "mounted on demand"
    if kind.startswith("fuse"):
        return "a FUSE file system"
    if kind in _IMAGE_TYPES:
        return "an image"
    if mount.device[0] == 0 and kind not in _POOL_TYPES | _OVERLAY_TYPES:
        return "exists only while this machine is running"
    return ""


def find_exclusion_reason(path: str) -> str:
    """Why a mount at this path is not part of the system; empty if it is."""
    for above in (*_list_parents(path), path):
        if above in _DATA_DIRECTORIES:
            return _DATA_DIRECTORIES[above]
    if path.rpartition("/")[2] == ".snapshots":
        return "snapshots"
    if path.partition("/")[0] not in _SYSTEM_DIRECTORIES:
        return "not a system directory"
    return ""


def is_vital(path: str) -> bool:
    """Whether a system is incomplete without what is mounted there."""
    return path in _VITAL_DIRECTORIES


def _full_root(mount: Mount) -> bytes:
    """The root that a mount of the whole file system, or subvolume, would have."""
    if mount.kind == "btrfs":
        for option in mount.options:
            if option.startswith(b"subvol="):
                return option.removeprefix(b"subvol=")
    return b"/"


def _list_parents(path: str) -> list[str]:
    """The directories above a path, the nearest first."""
    above = []
    while path := path.rpartition("/")[0]:
        above.append(path)
    return above
