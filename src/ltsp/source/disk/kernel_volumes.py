"""Read the volumes of a disk with the kernel where the sandboxed readers cannot.

The sandboxed process finds the volumes. A volume that is contiguous in a file becomes a read-only
loop device; any other is copied to an unnamed file first. The mounts are in no mount namespace: mounts, devices and
files vanish with their descriptors, even if this process is killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ltsp.disk import probe
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.file_system import FileSystem
from ltsp.inspection import kernel_drivers
from ltsp.inspection.found_system import FoundSystem, SystemChoice
from ltsp.inspection.search import SystemSearch
from ltsp.sandbox.client import SandboxReader
from ltsp.sandbox.disk_messages import (
    CopyVolume,
    FileIdentity,
    FileSystemReport,
    ListVolumes,
    LocateVolume,
    MeasureVolume,
    OpenVolume,
    ReadVolume,
    VolumeCopy,
    VolumeList,
    VolumeLocation,
    VolumeSize,
)
from ltsp.sandbox.messages import protocol_error
from ltsp.source.disk.disk_files import ScratchFiles
from ltsp.source.disk.kernel_mounts import SECTOR_SIZE, KernelMounts, LogReplayNeeded, require_mount_privilege
from ltsp.tree.name import printable
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree


@dataclass(slots=True)
class KernelVolumes:
    """The volumes of some disks, each opened by a reader that supports it."""

    reader: SandboxReader
    """With a session for these disks."""
    files: Callable[[], Iterable[BinaryIO]]
    """The files of the source that the process reads: the disk, and the files that it refers to."""
    scratch: ScratchFiles
    fstype: str
    kernel_only: bool
    """Whether the kernel reads everything, and not only what cannot be read without it."""
    mounts: KernelMounts
    may_copy: bool = False
    """Whether volumes may be copied."""
    pending_copies: dict[str, int] = field(default_factory=dict)
    """Volumes that were not read because they would have to be copied, and the most bytes that this takes."""
    file_systems: dict[int, FileSystem] = field(default_factory=dict)
    volumes: Volumes = field(init=False)
    formats: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        listed = self.reader.ask(ListVolumes(), VolumeList)
        self.volumes, self.formats = listed.to_volumes(), listed.formats

    def find_system(self, choice: SystemChoice, require_system: bool) -> FoundSystem:
        """The chosen system, as `SystemSearch` finds it.

        Volumes that can be read without copies are searched first, so that data is not copied needlessly.
        Raises LtspError.
        """
        found = self.find_system_without_copies(choice, require_system)
        if found is None:
            self.may_copy = True
            found = SystemSearch(self.volumes, self._open_cached).find_system(choice, require_system=require_system)
        return found

    def find_system_without_copies(self, choice: SystemChoice, require_system: bool) -> FoundSystem | None:
        """None if volumes would have to be copied. Raises LtspError."""
        try:
            found = SystemSearch(self.volumes, self._open_cached).find_system(choice, require_system=require_system)
        except LtspError:
            if self.pending_copies:
                return None
            raise
        return None if self.pending_copies and found.left_out else found

    def _open_cached(self, volume: Volume) -> FileSystem:
        """Raises FormatError and SourceError."""
        number = next(number for number, each in enumerate(self.volumes.volumes) if each is volume)
        if number not in self.file_systems:
            self.file_systems[number] = self._open(number, volume)
        return self.file_systems[number]

    def _open(self, number: int, volume: Volume) -> FileSystem:
        if self.kernel_only:
            return self._open_mounted(number, volume)
        try:
            return self._open_sandboxed(number)
        except FormatError:
            raise
        except LtspError as error:
            if kernel_drivers.find_driver(volume.kind, self.fstype) is None:
                raise
            try:
                return self._open_mounted(number, volume)
            except LtspError as second:
                raise _combine_errors(error, second) from second

    def _open_sandboxed(self, number: int) -> FileSystem:
        """Open the volume in the sandboxed process."""
        found = self.reader.ask(OpenVolume(number), FileSystemReport)
        common = (self.reader, number, found.kind, found.label, found.uuid)
        if found.subvolumes is None:
            return SandboxedFileSystem(*common)
        return SandboxedSubvolumeFileSystem(*common, paths=found.subvolumes)

    def _open_mounted(self, number: int, volume: Volume) -> FileSystem:
        driver = kernel_drivers.find_driver(volume.kind, self.fstype)
        if driver is None:
            is_explicit = self.fstype not in ("", "auto")
            what = f"the kernel cannot mount fstype={printable(self.fstype)}" if is_explicit else ""
            hint = "omit fstype=" if what else probe.get_remedy(volume.kind)
            raise SourceError(
                what or f"it holds {probe.describe_kind(volume.kind)}, which the kernel cannot mount", hint
            )
        require_mount_privilege()
        location = self._locate(number, volume)
        if location is not None:
            file, offset = location
            try:  # unpacked files are private, so a log may be replayed in them
                return self.mounts.mount(file, offset, volume.size, driver, writable=file in self.scratch.files)
            except LogReplayNeeded:
                pass
        return self.mounts.mount(self._copy(number, volume), 0, volume.size, driver, writable=True)

    def _locate(self, number: int, volume: Volume) -> tuple[BinaryIO, int] | None:
        """The file that contains it, and its offset; None if it is not a range that can be a device."""
        location = self.reader.ask(LocateVolume(number), VolumeLocation)
        if location.file is None:
            return None
        file = self._find_file(location.file)
        if location.offset + volume.size > os.lseek(file.fileno(), 0, os.SEEK_END):
            raise protocol_error()
        return None if location.offset % SECTOR_SIZE else (file, location.offset)

    def _find_file(self, identity: FileIdentity) -> BinaryIO:
        """The open file with this device and inode number. Raises ReaderFailed if there is none."""
        for file in (*self.files(), *self.scratch.files):
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) == (identity.device, identity.inode):
                return file
        raise protocol_error()

    def _copy(self, number: int, volume: Volume) -> BinaryIO:
        """Raises SourceError if there is no room, or if copies are not allowed."""
        if not self.may_copy:
            self.pending_copies[volume.name] = self.reader.ask(MeasureVolume(number), VolumeSize).size
            raise SourceError("it has to be copied before the kernel can read it")
        with self.scratch.allow_files():
            file = self._find_file(self.reader.ask(CopyVolume(number), VolumeCopy).file)
        if file not in self.scratch.files:
            raise protocol_error()
        return file


def _combine_errors(first: LtspError, second: LtspError) -> SourceError:
    """The errors of both readers: the first says why it cannot read the volume, the second what to do."""
    hints = dict.fromkeys(filter(None, (first.hint, second.hint)))
    return SourceError(f"{first.message}; {second.message}", ", or ".join(hints))


@dataclass(slots=True)
class SandboxedFileSystem:
    """A file system that the sandboxed process reads."""

    reader: SandboxReader
    number: int
    kind: str
    label: str
    uuid: str
    trees: dict[str | None, Tree] = field(default_factory=dict)

    def tree(self, selection: Selection = select_all) -> Tree:
        return self._tree(None, selection)

    def _tree(self, path: str | None, selection: Selection) -> Tree:
        if path not in self.trees:
            self.trees[path] = self.reader.tree(ReadVolume(self.number, path))
        return self.trees[path].select(selection)


@dataclass(slots=True)
class SandboxedSubvolumeFileSystem(SandboxedFileSystem):
    paths: Sequence[str] = ()

    def subvolume_paths(self) -> Sequence[str]:
        return self.paths

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return self._tree(path, selection)
