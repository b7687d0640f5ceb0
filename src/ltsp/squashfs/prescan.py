"""Count the contents of a tree once, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.squashfs.format import MAX_NAME_SIZE, MAX_TARGET_SIZE
from ltsp.tree.name import encode, printable
from ltsp.tree.node import MAX_MTIME, Device, Directory, File, Metadata, Symlink, clamp_time
from ltsp.tree.tree import Tree

MAX_IDS = 0xFFFF
"""Different user and group ids in total; the superblock counts them in 16 bits."""
_MAX_ID = 0xFFFF_FFFF
_MAX_MAJOR = 0xFFF
_MAX_MINOR = 0xF_FFFF


@dataclass(frozen=True, slots=True)
class Prescan:
    ids: tuple[int, ...]
    """User and group ids, sorted."""
    link_counts: Mapping[int, int]
    """Number of names by the `id` of each node that has several."""
    shared_sizes: frozenset[int]
    """Sizes shared by several regular files: only these can be duplicates."""
    latest_mtime: int
    """Latest clamped time."""
    clamped_times: int
    """Nodes whose time squashfs cannot store."""

    @classmethod
    def of(cls, tree: Tree) -> Prescan:
        """Raises LtspError if squashfs cannot store the tree."""
        owners: set[tuple[int, int]] = set()
        seen: set[int] = set()
        link_counts: dict[int, int] = {}
        sizes: set[int] = set()
        shared: set[int] = set()
        latest_mtime = clamped_times = 0
        pending = [tree.root]
        nodes: list[Metadata]
        while pending:
            directory = pending.pop()
            nodes = [directory.metadata]
            for name, node in directory.entries.items():
                if len(name) > MAX_NAME_SIZE // 4:
                    _check_name(name)
                if isinstance(node, Directory):
                    pending.append(node)
                    continue
                key = id(node)
                if key in seen:
                    link_counts[key] = link_counts.get(key, 1) + 1
                    continue
                seen.add(key)
                nodes.append(node.metadata)
                if isinstance(node, File):
                    size = node.content.size
                    (shared if size in sizes else sizes).add(size)
                elif isinstance(node, Symlink):
                    _check_target(name, node.target)
                elif isinstance(node, Device):
                    _check_device(name, node)
            for metadata in nodes:
                owners.add((metadata.uid, metadata.gid))
                mtime = metadata.mtime
                if not 0 <= mtime <= MAX_MTIME:
                    clamped_times += 1
                    mtime = clamp_time(mtime)
                latest_mtime = max(latest_mtime, mtime)
        ids = {one for pair in owners for one in pair}
        _check_ids(ids)
        return cls(tuple(sorted(ids)), link_counts, frozenset(shared), latest_mtime, clamped_times)


def _check_ids(ids: set[int]) -> None:
    if len(ids) > MAX_IDS:
        raise LtspError(
            f"the files have {len(ids)} different user and group ids, but squashfs can store only {MAX_IDS}",
            "exclude some of the files, or give them one owner with -m -all-root",
        )
    if not 0 <= min(ids) <= max(ids) <= _MAX_ID:
        raise LtspError(f"user and group ids from {min(ids)} to {max(ids)} do not fit in 32 bits")


def _check_name(name: str) -> None:
    if len(encode(name)) > MAX_NAME_SIZE:
        raise LtspError(f"a file name is longer than {MAX_NAME_SIZE} bytes: {printable(name)}")


def _check_target(name: str, target: str) -> None:
    if not 1 <= len(encode(target)) <= MAX_TARGET_SIZE:
        raise LtspError(f"the target of the symbolic link {printable(name)} must have 1 to {MAX_TARGET_SIZE} bytes")


def _check_device(name: str, device: Device) -> None:
    if not (0 <= device.major <= _MAX_MAJOR and 0 <= device.minor <= _MAX_MINOR):
        raise LtspError(
            f"the device {printable(name)} has the number {device.major}:{device.minor}, which is out of range"
        )
