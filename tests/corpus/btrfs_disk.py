"""A new btrfs for a test, on a loop device."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def btrfs_disk(place: Path, *options: str) -> Iterator[Path]:
    """The mount point of a new btrfs, at its top level."""
    disk, mount_point = place / "btrfs.img", place / "btrfs"
    with disk.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, stdout=subprocess.DEVNULL)
    mount_point.mkdir()
    subprocess.run(["mount", "-o", ",".join(["loop", *options]), disk, mount_point], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "-R", mount_point], check=True)


def subvolume(path: Path) -> Path:
    """A new one."""
    subprocess.run(["btrfs", "-q", "subvolume", "create", path], check=True)
    return path


def subvolumes(mount_point: Path) -> list[str]:
    """The paths of all that are in a btrfs, in order; asked of the btrfs of the distribution."""
    done = subprocess.run(["btrfs", "subvolume", "list", mount_point], check=True, capture_output=True, text=True)
    return sorted(line.split(" path ", 1)[1] for line in done.stdout.splitlines())
