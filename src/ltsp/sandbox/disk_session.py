"""The sandboxed process for disks: from open files to volumes, to the system on them, and its tree.

It reads the file systems that it has readers for. Of others it locates the volume, or copies it, for the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from ltsp.disk import probe
from ltsp.disk.image import Disk, open_disk
from ltsp.disk.volume import sector_cipher
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.btrfs import volume as btrfs
from ltsp.filesystem.ext import volume as ext
from ltsp.filesystem.file_system import FileSystem, SubvolumeFileSystem
from ltsp.filesystem.iso import volume as iso
from ltsp.filesystem.vfat import volume as vfat
from ltsp.filesystem.xfs import volume as xfs
from ltsp.inspection import kernel_drivers
from ltsp.inspection.found_system import FoundSystem, SystemChoice
from ltsp.inspection.search import SystemSearch
from ltsp.sandbox import disk_messages as messages
from ltsp.sandbox.messages import SCRATCH, Message
from ltsp.sandbox.session import Caller, SessionKind
from ltsp.storage import lzo
from ltsp.storage.blocks import Blocks, free_bytes, write_sparse
from ltsp.storage.extents import find_contiguous_range, find_data_ranges
from ltsp.tree.name import printable
from ltsp.tree.selection import DirectoryFilter, select_all
from ltsp.tree.tree import Tree

lzo.load_native()  # load the library now: after confinement it cannot be read
with suppress(LtspError):
    sector_cipher.load_aes_library()  # likewise
with suppress(ImportError):
    import xxhash  # noqa: F401 - likewise
_READERS: dict[str, Callable[[Blocks], FileSystem]] = {
    probe.EXT: ext.open,
    probe.XFS: xfs.open,
    probe.BTRFS: btrfs.open,
    probe.ISO9660: iso.open,
    probe.VFAT: vfat.open,
}
_SECTOR_SIZE = 512
_PIECE_SIZE = 1 << 20
_RESERVED_SPACE = 64 << 20
"""Bytes to leave free."""


@dataclass(slots=True)
class DiskSession:
    disks: tuple[Disk, ...]
    volumes: Volumes
    caller: Caller
    fstype: str
    """As the user gave it."""
    found: dict[tuple[SystemChoice, bool], FoundSystem] = field(default_factory=dict)
    unread: bool = False
    """Whether there is an unread file system that the kernel may be able to read."""
    opened: dict[int, FileSystem] = field(default_factory=dict)

    def answer(self, request: Message) -> Message:
        match request:
            case messages.FindSystem(choice, require_system):
                found = self._find_system(choice, require_system=require_system)
                return messages.SystemReport.of(found, self._formats(), self._warnings(), unread=self.unread)
            case messages.ListVolumes():
                reports = tuple(map(messages.VolumeReport.of, self.volumes.volumes))
                return messages.VolumeList(reports, self._formats(), tuple(self.volumes.missing), self._warnings())
            case messages.OpenVolume(number):
                system = self._open_file_system(number)
                return messages.FileSystemReport(system.kind, system.label, system.uuid, _list_subvolumes(system))
            case messages.LocateVolume(number):
                found_extent = find_contiguous_range(self._volume(number).blocks)
                if found_extent is None:
                    return messages.VolumeLocation(None, 0)
                return messages.VolumeLocation(_identity(found_extent.file), found_extent.offset)
            case messages.MeasureVolume(number):
                return messages.VolumeSize(self._measure(self._volume(number)))
            case messages.CopyVolume(number):
                return messages.VolumeCopy(self._copy(self._volume(number)))
        raise FormatError("invalid request")

    def tree(self, request: Message, entered: DirectoryFilter) -> Tree:
        match request:
            case messages.ReadSystem(choice, require_system):
                return self._find_system(choice, require_system=require_system).tree(entered)
            case messages.ReadVolume(number, subvolume):
                system = self._open_file_system(number)
                if subvolume is not None and isinstance(system, SubvolumeFileSystem):
                    return system.subvolume_tree(subvolume, select_all)
                return system.tree()
        raise FormatError("invalid request")

    def _find_system(self, choice: SystemChoice, *, require_system: bool) -> FoundSystem:
        if (choice, require_system) not in self.found:
            search = SystemSearch(self.volumes, lambda volume: open_volume(volume, self.fstype))
            self.found[choice, require_system] = search.find_system(choice, require_system=require_system)
            unread = [self.volumes.volumes[number] for number in search.faults]
            self.unread = any(
                not each.fault and kernel_drivers.find_driver(each.kind, self.fstype) is not None for each in unread
            )
        return self.found[choice, require_system]

    def _formats(self) -> tuple[str, ...]:
        return tuple(" in ".join(filter(None, (disk.format, disk.compression))) for disk in self.disks)

    def _warnings(self) -> tuple[str, ...]:
        return (*(warning for disk in self.disks for warning in disk.warnings), *self.volumes.warnings)

    def _volume(self, number: int) -> Volume:
        return self.volumes.volumes[number]

    def _open_file_system(self, number: int) -> FileSystem:
        if number not in self.opened:
            self.opened[number] = open_volume(self._volume(number), self.fstype)
        return self.opened[number]

    def _measure(self, volume: Volume) -> int:
        """The most bytes that a copy of it takes."""
        needs = 0
        for _, length in find_data_ranges(volume.blocks):
            needs += length
            self.caller.heartbeat()
        return needs

    def _copy(self, volume: Volume) -> messages.FileIdentity:
        """Copy the volume, with holes for ranges of zeros, and return the identity of the copy.

        Raises FormatError, and SourceError if there is no room for it.
        """
        needs = self._measure(volume)
        with self.caller(SCRATCH) as file:
            _check_room(volume, needs, file.fileno())
            os.ftruncate(file.fileno(), -(-volume.size // _SECTOR_SIZE) * _SECTOR_SIZE)
            for place, length in find_data_ranges(volume.blocks):
                for at in range(place, place + length, _PIECE_SIZE):
                    _write(file.fileno(), volume.blocks.read_at(at, min(_PIECE_SIZE, place + length - at)), at)
                    self.caller.heartbeat()
            return _identity(file.fileno())


def _begin(request: messages.OpenDisks, files: list[BinaryIO], caller: Caller) -> DiskSession:
    """Raises FormatError and SourceError."""
    disks = tuple(_open_numbered_disk(number, file, caller) for number, file in enumerate(files))
    volumes = Volumes.of(disks, caller.find_key if request.unlock else None)
    return DiskSession(disks, volumes, caller, request.fstype)


def _open_numbered_disk(number: int, file: BinaryIO, caller: Caller) -> Disk:
    """Open a disk by its number, from 0. Raises FormatError and SourceError."""
    try:
        return open_disk(
            file,
            open_sibling=lambda name: caller(messages.format_sibling(number, name)),
            make_scratch=lambda: caller(SCRATCH),
            heartbeat=caller.heartbeat,
        )
    except LtspError as error:
        if not number:
            raise
        raise type(error)(f"disk {number + 1}: {error.message}", error.hint) from error


def open_volume(volume: Volume, fstype: str) -> FileSystem:
    """Raises SourceError for an unsupported file system, and the errors of its reader."""
    kind = volume.kind if fstype in ("", "auto") else kernel_drivers.KINDS_BY_FSTYPE.get(fstype, fstype)
    reader = _READERS.get(kind)
    if reader is None:
        own = kind == volume.kind
        what = f"it holds {probe.describe_kind(kind)}" if own else f"fstype={printable(fstype)}"
        if kernel_drivers.find_driver(kind) is not None:
            what += ", which only the kernel can read"
        elif not own:
            what += ", which cannot be read"
        raise SourceError(what, probe.get_remedy(kind) or "omit fstype=")
    try:
        return reader(volume.blocks)
    except FormatError as error:
        if kind == volume.kind:
            raise
        what = f"fstype={printable(fstype)} is wrong: it holds {probe.describe_kind(volume.kind)}"
        raise SourceError(what, "omit fstype=") from error


def _check_room(volume: Volume, needs: int, descriptor: int) -> None:
    """Raises SourceError."""
    free = free_bytes(descriptor)
    if needs + _RESERVED_SPACE > free:
        raise SourceError(
            f"a copy of {printable(volume.name)} may take {needs >> 20} MiB, but only {free >> 20} MiB are free",
            "free up space in /var/tmp, or set TMPDIR to another directory",
        )


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Raises SourceError."""
    try:
        write_sparse(descriptor, data, offset)
    except OSError as error:
        raise SourceError(f"cannot copy the volume: {error.strerror}", "free up space, or set TMPDIR") from error


def _identity(descriptor: int) -> messages.FileIdentity:
    status = os.fstat(descriptor)
    return messages.FileIdentity(status.st_dev, status.st_ino)


def _list_subvolumes(system: FileSystem) -> tuple[str, ...] | None:
    return tuple(system.subvolume_paths()) if isinstance(system, SubvolumeFileSystem) else None


SESSION = SessionKind(
    messages.OpenDisks,
    _begin,
    (
        *(messages.FindSystem, messages.ReadSystem, messages.ListVolumes, messages.OpenVolume, messages.ReadVolume),
        *(messages.LocateVolume, messages.MeasureVolume, messages.CopyVolume),
    ),
)
