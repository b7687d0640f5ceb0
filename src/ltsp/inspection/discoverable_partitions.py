"""Partitions whose type determines their mount point, for those that fstab(5) does not list.

UAPI.2, the Discoverable Partitions Specification; systemd-gpt-auto-generator(8). The root itself is found by its
content, never by a type: a disk may have several. Home directories and server data are not part of an image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.disk.volumes import Volume
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

_ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_TYPES: Final[tuple[tuple[str, str, str], ...]] = (
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "boot", "an extended boot loader partition"),
    (_ESP, "efi", "an EFI system partition"),
    (_ESP, "boot", "an EFI system partition"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "var", "a partition for /var"),
    ("75250d76-8cc6-458e-bd66-bd47cc81a812", "usr", "a partition for /usr of x86"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "usr", "a partition for /usr of x86-64"),
    ("7d0359a3-02b3-4f0a-865c-654403e70625", "usr", "a partition for /usr of ARM"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "usr", "a partition for /usr of ARM-64"),
    ("beaec34b-8442-439b-a40b-984381ed097d", "usr", "a partition for /usr of RISC-V-64"),
)
"""Type, mount point and description, in mount order; each partition is used once."""
MOUNT_POINTS: Final = frozenset(place for _, place, _ in _TYPES)
"""Directories to check: one with entries is not mounted over."""


@dataclass(frozen=True, slots=True)
class DiscoveredPartition:
    path: str
    number: int
    """Index of the volume among all."""
    reason: str


def discover_partitions(
    volumes: Sequence[Volume], root: Volume, tree: Tree, listed: Collection[str]
) -> Iterator[DiscoveredPartition]:
    """Partitions of the same disk that belong to a root file system but are not in its fstab, parents first.

    `tree` has at least the names in the directories of `MOUNT_POINTS`.
    """
    taken: set[int] = set()
    places = set(listed)
    for kind, place, what in _TYPES:
        directory = tree.get(place)
        if place in places or not isinstance(directory, Directory) or directory.entries:
            continue
        for number, volume in enumerate(volumes):
            is_other = volume is not root and number not in taken and volume.disk == root.disk
            if is_other and volume.number and volume.type == kind:
                taken.add(number)
                places.add(place)
                yield DiscoveredPartition(place, number, f"{what}, according to its type")
                break
