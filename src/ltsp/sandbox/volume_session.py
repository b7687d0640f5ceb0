"""The sandboxed process for disks whose file systems the kernel reads: it lists the volumes, and unpacks them.

Disk formats, partition tables, LVM and RAID are still parsed here, without privileges, and so are the file systems
that do not need the kernel.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO

from ltsp.disk import block_map
from ltsp.disk.image import Disk
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.file_system import FileSystem, SubvolumeFileSystem
from ltsp.sandbox.disk_session import SCRATCH, open_numbered_disk, open_volume
from ltsp.sandbox.worker import Caller, main
from ltsp.storage.sparse import free_bytes, write_sparse
from ltsp.tree.name import printable
from ltsp.tree.selection import DirectoryFilter, select_all
from ltsp.tree.tree import Tree

_SECTOR = 512
_PIECE = 1 << 20
_ROOM_LEFT = 64 << 20
"""Bytes to leave free."""


@dataclass(slots=True)
class VolumeSession:
    disks: tuple[Disk, ...]
    volumes: Volumes
    caller: Caller
    fstype: str
    opened: dict[int, FileSystem] = field(default_factory=dict)

    def query(self, question: dict[str, object]) -> object:
        match question:
            case {"do": "list"}:
                return self._list_volumes()
            case {"do": "open", "volume": int(number)}:
                system = self._open_file_system(number)
                return {
                    "kind": system.kind,
                    "label": system.label,
                    "uuid": system.uuid,
                    "subvolumes": _list_subvolumes(system),
                }
            case {"do": "place", "volume": int(number)}:
                found = block_map.find_contiguous_extent(self._volume(number).blocks)
                return found and {"file": _identity(found.file), "offset": found.offset}
            case {"do": "measure", "volume": int(number)}:
                return self._measure(self._volume(number))
            case {"do": "copy", "volume": int(number)}:
                return self._copy(self._volume(number))
        raise FormatError("invalid request")

    def tree(self, question: dict[str, object], _entered: DirectoryFilter) -> Tree:
        match question:
            case {"volume": int(number), "subvolume": str(path)}:
                system = self._open_file_system(number)
                return (
                    system.subvolume_tree(path, select_all)
                    if isinstance(system, SubvolumeFileSystem)
                    else system.tree()
                )
            case {"volume": int(number)}:
                return self._open_file_system(number).tree()
        raise FormatError("invalid request")

    def _list_volumes(self) -> object:
        return {
            "volumes": [
                {
                    "name": each.name,
                    "size": each.size,
                    "kind": each.kind,
                    "disk": each.disk,
                    "number": each.number,
                    "type": each.type,
                    "devices": list(each.devices),
                    "encrypted": list(each.encrypted),
                    "fault": each.fault,
                }
                for each in self.volumes.volumes
            ],
            "formats": [" in ".join(filter(None, (disk.format, disk.compression))) for disk in self.disks],
            "missing": list(self.volumes.missing),
            "warnings": [*(warning for disk in self.disks for warning in disk.warnings), *self.volumes.warnings],
        }

    def _volume(self, number: int) -> Volume:
        return self.volumes.volumes[number]

    def _open_file_system(self, number: int) -> FileSystem:
        if number not in self.opened:
            self.opened[number] = open_volume(self._volume(number), self.fstype)
        return self.opened[number]

    def _measure(self, volume: Volume) -> int:
        """The most bytes that a copy of it takes."""
        needs = 0
        for _, length in block_map.data_ranges(volume.blocks):
            needs += length
            self.caller.working()
        return needs

    def _copy(self, volume: Volume) -> object:
        """Copy the volume, with holes for ranges of zeros, and return the identity of the copy.

        Raises FormatError, and SourceError if there is no room for it.
        """
        needs = self._measure(volume)
        with self.caller(SCRATCH) as file:
            _check_room(volume, needs, file.fileno())
            os.ftruncate(file.fileno(), -(-volume.size // _SECTOR) * _SECTOR)
            for place, length in block_map.data_ranges(volume.blocks):
                for at in range(place, place + length, _PIECE):
                    _write(file.fileno(), volume.blocks.read_at(at, min(_PIECE, place + length - at)), at)
                    self.caller.working()
            return {"file": _identity(file.fileno())}


def _check_room(volume: Volume, needs: int, descriptor: int) -> None:
    """Raises SourceError."""
    free = free_bytes(descriptor)
    if needs + _ROOM_LEFT > free:
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


def _identity(descriptor: int) -> list[int]:
    status = os.fstat(descriptor)
    return [status.st_dev, status.st_ino]


def _list_subvolumes(system: FileSystem) -> list[str] | None:
    return list(system.subvolume_paths()) if isinstance(system, SubvolumeFileSystem) else None


def begin(files: list[BinaryIO], caller: Caller, options: dict[str, object]) -> VolumeSession:
    """`options`: `fstype`, and `unlock` if there is a key. Raises FormatError and SourceError."""
    disks = tuple(open_numbered_disk(number, file, caller) for number, file in enumerate(files))
    volumes = Volumes.of(disks, caller.find_key if options.get("unlock") else None)
    return VolumeSession(disks, volumes, caller, str(options.get("fstype", "")))


if __name__ == "__main__":
    main(begin)
