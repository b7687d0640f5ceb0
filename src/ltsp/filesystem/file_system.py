"""What every reader of a file system offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree


class FileSystem(Protocol):
    """A file system whose superblock has been read and understood, and that needs no repair."""

    @property
    def kind(self) -> str:
        """As mount(8) and fstab(5) name it: `ext4`, `xfs`."""
        ...

    @property
    def label(self) -> str:
        """Empty where it has none."""
        ...

    @property
    def uuid(self) -> str:
        """As blkid(8) shows it; empty where it has none."""
        ...

    def tree(self, selection: Selection = select_all) -> Tree:
        """All files, with contents that are read when asked for.

        A directory that the selection leaves out or empties is not looked into. Raises FormatError where anything
        that is looked at is damaged, and SourceError where it cannot be read by anybody without its key.
        """
        ...


@runtime_checkable
class SubvolumeFileSystem(FileSystem, Protocol):
    """A file system of several trees: btrfs with its subvolumes."""

    def subvolume_paths(self) -> Sequence[str]:
        """From the top one, which comes first and is the empty path. Raises FormatError and SourceError."""
        ...

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        """As `tree` gives it for the one that a mount without options shows. Raises SourceError where it is not."""
        ...
