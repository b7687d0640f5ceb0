"""Snapshots of ZFS: of the dataset that is mounted. zfs-snapshot(8), zfs-destroy(8), mount.zfs(8)

Written from the manual pages; tested with a fake program that behaves as documented, not with a pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ltsp.errors import LtspError
from ltsp.host import command
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
from ltsp.tree.name import decode, encode

_PACKAGE = "zfsutils-linux"


def is_installed() -> bool:
    return command.find_program("zfs") is not None


def check_programs() -> None:
    """Raises LtspError, naming the package, if zfs is missing."""
    if not is_installed():
        raise LtspError("zfs not found, which a ZFS snapshot needs", f"install {_PACKAGE}")


@contextmanager
def take_snapshot(base: SnapshotBase, _wanted: MountSelection) -> Iterator[Sequence[FrozenMount]]:
    """A root to read in place of a mount. Datasets below it are separate mounts.

    Raises OSError and LtspError.
    """
    dataset = decode(base.mount.source)
    _remove_orphans(dataset)
    with frozen.reserve_name() as name:
        snapshot = f"{dataset}@{name}"
        with remove_at_exit(lambda: _destroy(snapshot)):
            command.run(["zfs", "snapshot", snapshot], package=_PACKAGE)
            mount_fd = create_mount(b"zfs", encode(snapshot), {b"ro": None}, READ_ONLY_MOUNT_FLAGS)
            with open_snapshot_root(mount_fd, base.inner_path, base.root) as root:
                yield [FrozenMount(base.path, "zfs", dataset, root, os.fstat(base.root.descriptor).st_dev)]


def _remove_orphans(dataset: str) -> None:
    """Remove the snapshots of this dataset that killed runs left behind."""
    columns = ["-H", "-p", "-t", "snapshot", "-o", "name", "-d", "1"]
    for line in command.run(["zfs", "list", *columns, dataset], package=_PACKAGE).stdout.splitlines():
        name = decode(line).rpartition("@")[2]
        with frozen.claim_orphan(name) as is_orphan:
            if is_orphan:
                with suppress(LtspError):  # one that is in use or held can stay
                    command.run(["zfs", "destroy", f"{dataset}@{name}"])


def _destroy(snapshot: str) -> None:
    if (
        command.run(["zfs", "list", "-H", "-t", "snapshot", "-o", "name", snapshot], accepted_statuses=(0, 1)).status
        == 0
    ):
        command.run(["zfs", "destroy", snapshot])
