"""The protocols of file system readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree


class FileSystem(Protocol):
    """A file system with a valid superblock that needs no repair."""

    @property
    def kind(self) -> str:
        """Its type in mount(8) and fstab(5): `ext4`, `xfs`."""
        ...

    @property
    def label(self) -> str:
        """Empty if it has none."""
        ...

    @property
    def uuid(self) -> str:
        """As blkid(8) shows it; empty if it has none."""
        ...

    def tree(self, selection: Selection = select_all) -> Tree:
        """All files; their contents are read on demand.

        A directory that the selection excludes or empties is not read. Raises FormatError if anything that is read is
        damaged, SourceError if it is encrypted.
        """
        ...


@runtime_checkable
class SubvolumeFileSystem(FileSystem, Protocol):
    """A file system with several trees: btrfs with its subvolumes."""

    def subvolume_paths(self) -> Sequence[str]:
        """Paths from the top subvolume, which comes first as the empty path. Raises FormatError and SourceError."""
        ...

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        """The tree of a subvolume; `tree` returns that of the default one. Raises SourceError if it does not exist."""
        ...
