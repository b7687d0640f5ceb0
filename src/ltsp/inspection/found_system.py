"""The systems that disks hold, as values: which one was asked for, where each file system is, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltsp.disk.volumes import Volume
from ltsp.filesystem.file_system import FileSystem, SubvolumeFileSystem
from ltsp.inspection.live_medium import LiveMedium
from ltsp.inspection.root_file_systems import NestedRoot
from ltsp.tree.node import Directory
from ltsp.tree.selection import DirectoryFilter, Inclusion, Selection, enter_all
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class SystemChoice:
    """The user's choice of a system; empty strings mean to search for one."""

    partition: str = ""
    """A partition number, optionally after the disk's number and a colon, or a volume name: `2`, `2:1`, `vg/root`."""
    subvolume: str = ""
    required_path: str = ""
    """A path that has to exist: the file system with it need not be a system."""


@dataclass(frozen=True, slots=True)
class FileSystemLocation:
    """A file system, or a subvolume of one."""

    volume: Volume
    file_system: FileSystem
    subvolume: str | None = None
    """None for the default subvolume."""
    nested: NestedRoot | None = None
    """Set if the root is in a directory of it."""

    def tree(self, selection: Selection) -> Tree:
        if self.nested is not None:
            return self.nested.tree(self._read_file_system(self.nested.selection(selection)))
        return self._read_file_system(selection)

    def _read_file_system(self, selection: Selection) -> Tree:
        if self.subvolume is not None and isinstance(self.file_system, SubvolumeFileSystem):
            return self.file_system.subvolume_tree(self.subvolume, selection)
        return self.file_system.tree(selection)

    @property
    def description(self) -> str:
        below = f", subvolume {self.subvolume}" if self.subvolume is not None else ""
        inside = f", directory {self.nested.path}" if self.nested is not None else ""
        return f"{self.file_system.kind} on {self.volume.name}{below}{inside}"


@dataclass(frozen=True, slots=True)
class FoundSystem:
    """A system and its parts."""

    location: FileSystemLocation
    title: str
    """PRETTY_NAME of os-release(5); not safe to print."""
    parts: tuple[tuple[str, FileSystemLocation, str], ...] = ()
    """Other file systems: mount point, location and reason, parents first."""
    left_out: tuple[tuple[str, str, str], ...] = ()
    """Entries of the fstab that are left out: path, device and reason."""
    live: LiveMedium | None = None
    """Set for a medium that carries systems in files."""
    unsearched_notes: tuple[str, ...] = ()
    """A line for each volume that could not be searched and may hold another system; safe to print."""

    def tree(self, entered: DirectoryFilter = enter_all) -> Tree:
        covered = frozenset(path for path, _, _ in self.parts)
        tree = self.location.tree(_UncoveredSelection(covered, "", "", entered))
        for path, location, _ in self.parts:
            at = tree.resolve(path)
            if at is not None and isinstance(tree.get(at), Directory) and all(entered([at])):
                below = location.tree(_UncoveredSelection(covered, f"{path}/", f"{at}/", entered))
                tree = tree.edit({at: below.root})
        return tree


@dataclass(frozen=True, slots=True)
class _UncoveredSelection:
    """A selection that skips directories that are mounted over or not entered."""

    covered: frozenset[str]
    fstab_prefix: str
    """Prefix of the part's paths in the fstab."""
    tree_prefix: str
    """Prefix in the whole tree, which differs if links are involved."""
    entered_filter: DirectoryFilter

    def __call__(self, path: str, directory: bool) -> Inclusion:
        return Inclusion.EMPTIED if directory and self.fstab_prefix + path in self.covered else Inclusion.ALL

    def entered(self, paths: Sequence[str]) -> Sequence[bool]:
        return self.entered_filter([self.tree_prefix + path for path in paths])
