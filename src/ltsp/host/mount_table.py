"""The mount table as values: /proc/self/mountinfo, parsed. proc_pid_mountinfo(5)"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo; paths are bytes, as everywhere at the edge."""

    id: int
    parent: int
    device: tuple[int, int]
    """Major and minor number of the file system."""
    root: bytes
    """The directory of the file system that is mounted; not `/` for bind mounts and btrfs subvolumes."""
    point: bytes
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
            parent=int(fields[1]),
            device=(int(major), int(minor)),
            root=_unescape(fields[3]),
            point=_unescape(fields[4]),
            kind=_unescape(fields[dash + 1]).decode("utf-8", "replace"),
            source=_unescape(fields[dash + 2]),
            options=frozenset(_unescape(fields[dash + 3]).split(b",")),
        )


def parse(text: bytes) -> list[Mount]:
    """The mounts in the order of the table."""
    return [Mount.parse(line) for line in text.split(b"\n") if line]


def read() -> list[Mount]:
    with open("/proc/self/mountinfo", "rb") as table:
        return parse(table.read())


def mounts_below(mounts: Sequence[Mount], path: bytes, mount_id: int | None) -> dict[bytes, Mount]:
    """What one meets on the way down from a directory: mounts by their point relative to it, parents before children.

    A mount that another one hides is not met. `mount_id` is that of the directory's own mount; where the kernel does
    not tell, the last mount that holds the path is taken for it.
    """
    prefix = path.rstrip(b"/") + b"/"
    children: dict[int, dict[bytes, Mount]] = {}
    for mount in mounts:
        if mount.id != mount.parent:
            children.setdefault(mount.parent, {})[mount.point] = mount
    met: dict[bytes, Mount] = {}
    pending = [mount_id if mount_id is not None else _holding_mount_id(mounts, prefix)]
    while pending:
        siblings = children.get(pending.pop(), {})
        for point, mount in siblings.items():
            if point == b"/" or not point.startswith(prefix) or _is_below_any(point, siblings):
                continue
            top = mount
            while above := children.get(top.id, {}).get(point):
                top = above
            met[point.removeprefix(prefix)] = top
            pending.append(top.id)
    return dict(sorted(met.items()))


def find_mount(mounts: Sequence[Mount], path: bytes, mount_id: int | None) -> Mount | None:
    """The mount that a directory lies in; None where the table does not show it.

    `mount_id` is as in `mounts_below`.
    """
    if mount_id is None:
        mount_id = _holding_mount_id(mounts, path.rstrip(b"/") + b"/")
    return next((mount for mount in mounts if mount.id == mount_id), None)


def _is_below_any(point: bytes, siblings: dict[bytes, Mount]) -> bool:
    """Whether a mount made later, on a directory above the point, hides it: else that one would be its parent."""
    at = point.rfind(b"/")
    while at > 0:
        if point[:at] in siblings:
            return True
        at = point.rfind(b"/", 0, at)
    return False


def _holding_mount_id(mounts: Sequence[Mount], prefix: bytes) -> int:
    candidates = [mount for mount in mounts if prefix.startswith(mount.point.rstrip(b"/") + b"/")]
    return max(enumerate(candidates), key=lambda pair: (len(pair[1].point), pair[0]))[1].id


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)
