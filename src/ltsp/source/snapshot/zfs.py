"""Snapshots of ZFS: of the dataset that is mounted. zfs-snapshot(8), zfs-destroy(8), mount.zfs(8)

Written after the manual pages; tested with a program that answers as they say, not with a pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from ltsp.errors import LtspError
from ltsp.host import command
from ltsp.host.system_call import new_mount
from ltsp.source.cleanup import removed_after
from ltsp.source.snapshot import naming
from ltsp.source.snapshot.frozen import READING, Live, Still, Wanted, inside
from ltsp.tree.name import decode, encode

_PACKAGE = "zfsutils-linux"


def is_there() -> bool:
    return command.find("zfs") is not None


def see_that_programs_are_there() -> None:
    """Raises LtspError, which names the package."""
    if not is_there():
        raise LtspError("a snapshot of ZFS takes the program zfs, which is not there", f"install {_PACKAGE}")


@contextmanager
def taken(live: Live, _wanted: Wanted) -> Iterator[Sequence[Still]]:
    """A root to read instead of a mount. Datasets below it are mounts of their own.

    Raises OSError and LtspError.
    """
    dataset = decode(live.mount.source)
    _remove_forgotten(dataset)
    with naming.own_name() as name:
        snapshot = f"{dataset}@{name}"
        with removed_after(lambda: _destroy(snapshot)):
            command.run(["zfs", "snapshot", snapshot], package=_PACKAGE)
            mounted = new_mount(b"zfs", encode(snapshot), {b"ro": None}, READING)
            with inside(mounted, live.inner, live.root) as root:
                yield [Still(live.path, "zfs", dataset, root, os.fstat(live.root.descriptor).st_dev)]


def _remove_forgotten(dataset: str) -> None:
    """Remove the snapshots of this dataset that killed runs have left."""
    columns = ["-H", "-p", "-t", "snapshot", "-o", "name", "-d", "1"]
    for line in command.run(["zfs", "list", *columns, dataset], package=_PACKAGE).stdout.splitlines():
        name = decode(line).rpartition("@")[2]
        with naming.forgotten(name) as is_forgotten:
            if is_forgotten:
                with suppress(LtspError):  # one that is in use or held is not in our way
                    command.run(["zfs", "destroy", f"{dataset}@{name}"])


def _destroy(snapshot: str) -> None:
    if command.run(["zfs", "list", "-H", "-t", "snapshot", "-o", "name", snapshot], accepted=(0, 1)).status == 0:
        command.run(["zfs", "destroy", snapshot])
