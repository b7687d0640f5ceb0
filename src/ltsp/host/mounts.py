"""The mounts of this machine: the mount table and the active swap files as values, and private mounts.

Private mounts live in a mount namespace. Nothing has to be unmounted: when the last process in it ends, even by a kill,
the kernel unmounts everything. proc_pid_mountinfo(5), proc_pid_swaps(5)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.host import system_call
from ltsp.host.system_call import MS_BIND, MS_NODEV, MS_NOSUID, MS_REC, MS_SLAVE

_MAX_OPTIONS_SIZE = 4095
"""Bytes of mount options: one page, with its NUL. mount(2)"""


def isolate_mounts() -> None:
    """Move this thread into a private mount namespace, whose mounts are not visible elsewhere.

    What others unmount is unmounted here too: a copy that stayed would keep their disk or loop device busy, unseen,
    until we end. mount_namespaces(7), MS_SLAVE
    Threads that exist already stay where they are; those and the programs that it starts from now on are in it.

    Raises LtspError without the privilege.
    """
    try:
        system_call.unshare_mount_namespace()
        system_call.mount(b"none", b"/", b"", MS_REC | MS_SLAVE, b"")
    except OSError as error:
        raise LtspError(f"cannot create a private mount namespace: {error.strerror}", "run as root") from error


def bind_mount(source: bytes, target: bytes) -> None:
    system_call.mount(source, target, b"", MS_BIND, b"")


def mount_tmpfs(target: bytes) -> None:
    system_call.mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=0700")


def mount_overlay(lower: Sequence[bytes], upper: bytes, work: bytes, target: bytes) -> None:
    """Mount a writable directory over others, the topmost first; `work` is empty and next to `upper`.

    Raises OSError: EINVAL if overlayfs does not support one of the file systems.
    """
    layers = b":".join(_escape_overlay_path(path, b"\\:,") for path in lower)
    options = b"lowerdir=%s,upperdir=%s,workdir=%s" % (
        layers,
        _escape_overlay_path(upper, b"\\,"),
        _escape_overlay_path(work, b"\\,"),
    )
    if len(options) > _MAX_OPTIONS_SIZE:
        raise LtspError(
            f"cannot mount an overlay of {len(lower)} layers: "
            f"their paths exceed the limit of {_MAX_OPTIONS_SIZE} bytes for mount options"
        )
    system_call.mount(b"overlay", target, b"overlay", 0, options)


def _escape_overlay_path(path: bytes, special: bytes) -> bytes:
    """A path in the options of overlay, where commas end an option and colons a layer. Kernel: overlayfs.rst"""
    return b"".join(b"\\" + byte if byte in special else byte for byte in (path[i : i + 1] for i in range(len(path))))


_OCTAL_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo; paths are bytes, as everywhere at the edge."""

    id: int
    parent_id: int
    device: tuple[int, int]
    """Major and minor number of the file system."""
    root: bytes
    """The directory of the file system that is mounted; not `/` for bind mounts and btrfs subvolumes."""
    mount_point: bytes
    """Absolute, as this process sees it."""
    kind: str
    """The file system's type, with its subtype: `ext4`, `fuse.sshfs`."""
    source: bytes
    """A device, a server's directory, or any word that mount(2) was given."""
    options: frozenset[bytes] = frozenset()
    """Those of the file system, such as `subvol=/@` of btrfs."""

    @classmethod
    def parse(cls, line: bytes) -> Mount:
        fields = line.split(b" ")
        # Optional fields (shared:1, master:2) end with a dash; no field before them can be one.
        dash = fields.index(b"-", 6)
        major, minor = fields[2].split(b":")
        return cls(
            id=int(fields[0]),
            parent_id=int(fields[1]),
            device=(int(major), int(minor)),
            root=_unescape(fields[3]),
            mount_point=_unescape(fields[4]),
            kind=_unescape(fields[dash + 1]).decode("utf-8", "replace"),
            source=_unescape(fields[dash + 2]),
            options=frozenset(_unescape(fields[dash + 3]).split(b",")),
        )


def parse_mounts(text: bytes) -> list[Mount]:
    """The mounts in the order of the table."""
    return [Mount.parse(line) for line in text.split(b"\n") if line]


def read_mounts() -> list[Mount]:
    with open("/proc/self/mountinfo", "rb") as table:
        return parse_mounts(table.read())


def find_mounts_below(mounts: Sequence[Mount], path: bytes, mount_id: int | None) -> dict[bytes, Mount]:
    """What one meets on the way down from a directory: mounts by their point relative to it, parents before children.

    A mount that another one hides is not met. `mount_id` is that of the directory's own mount; where the kernel does
    not tell, the last mount that holds the path is taken for it.
    """
    prefix = path.rstrip(b"/") + b"/"
    children: dict[int, dict[bytes, Mount]] = {}
    for mount in mounts:
        if mount.id != mount.parent_id:
            children.setdefault(mount.parent_id, {})[mount.mount_point] = mount
    visible: dict[bytes, Mount] = {}
    pending = [mount_id if mount_id is not None else _find_containing_mount_id(mounts, prefix)]
    while pending:
        siblings = children.get(pending.pop(), {})
        for mount_point, mount in siblings.items():
            if (
                mount_point == b"/"
                or not mount_point.startswith(prefix)
                or _is_hidden_by_sibling(mount_point, siblings)
            ):
                continue
            top = mount
            while covering := children.get(top.id, {}).get(mount_point):
                top = covering
            visible[mount_point.removeprefix(prefix)] = top
            pending.append(top.id)
    return dict(sorted(visible.items()))


def find_mount(mounts: Sequence[Mount], path: bytes, mount_id: int | None) -> Mount | None:
    """The mount that a directory lies in; None where the table does not show it.

    `mount_id` is as in `find_mounts_below`.
    """
    if mount_id is None:
        mount_id = _find_containing_mount_id(mounts, path.rstrip(b"/") + b"/")
    return next((mount for mount in mounts if mount.id == mount_id), None)


def _is_hidden_by_sibling(mount_point: bytes, siblings: dict[bytes, Mount]) -> bool:
    """Whether a mount made later, on a directory above the point, hides it: else that one would be its parent."""
    at = mount_point.rfind(b"/")
    while at > 0:
        if mount_point[:at] in siblings:
            return True
        at = mount_point.rfind(b"/", 0, at)
    return False


def _find_containing_mount_id(mounts: Sequence[Mount], prefix: bytes) -> int:
    candidates = [mount for mount in mounts if prefix.startswith(mount.mount_point.rstrip(b"/") + b"/")]
    return max(enumerate(candidates), key=lambda pair: (len(pair[1].mount_point), pair[0]))[1].id


def _unescape(field: bytes) -> bytes:
    return _OCTAL_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)


def list_swap_files() -> tuple[bytes, ...]:
    """Absolute paths of swap files, as named by the kernel; none without /proc."""
    try:
        with open("/proc/swaps", "rb") as file:
            return parse_swaps(file.read())
    except OSError:
        return ()


def parse_swaps(table: bytes) -> tuple[bytes, ...]:
    """Paths of the rows that are files; white space in them is written as octal escapes."""
    rows = (line.split() for line in table.splitlines()[1:])
    return tuple(_unescape(row[0]) for row in rows if len(row) > 1 and row[1] == b"file")
