"""What is said about disks to the sandboxed process and by it (`ltsp.sandbox.messages`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import SourceError
from ltsp.inspection.found_system import FoundSystem, SystemChoice
from ltsp.inspection.live_medium import LiveMedium


def format_sibling(number: int, name: str) -> str:
    """The name to request a file by to which a disk, by its number from 0, refers."""
    return f"{number}/{name}"


@dataclass(frozen=True, slots=True)
class OpenDisks:
    """Begins a session for disks, one a file."""

    fstype: str = ""
    """As the user gave it."""
    unlock: bool = False
    """Whether there is a key for encrypted volumes."""


@dataclass(frozen=True, slots=True)
class FindSystem:
    """Search for a system; answered with `SystemReport`."""

    choice: SystemChoice
    whole: bool
    """Whether it has to be a system, and not any file system."""


@dataclass(frozen=True, slots=True)
class ReadSystem:
    """The tree of a system, which is searched for."""

    choice: SystemChoice
    whole: bool


@dataclass(frozen=True, slots=True)
class PartReport:
    """A part of a system, or something that is left out of it. Texts are not safe to print."""

    path: str
    description: str
    reason: str


@dataclass(frozen=True, slots=True)
class SystemReport:
    """What a system consists of, and what was noticed. Texts are not safe to print."""

    title: str
    root: str
    parts: tuple[PartReport, ...]
    left_out: tuple[PartReport, ...]
    live: LiveMedium | None
    formats: tuple[str, ...]
    """Of the disks."""
    warnings: tuple[str, ...]
    unread: bool = False
    """Whether there is an unread file system that the kernel may be able to read."""

    @classmethod
    def of(cls, found: FoundSystem, formats: Sequence[str], warnings: Sequence[str], *, unread: bool = False) -> Self:
        return cls(
            found.title,
            found.location.description,
            tuple(PartReport(path, location.description, reason) for path, location, reason in found.parts),
            tuple(PartReport(*each) for each in found.left_out),
            found.live,
            tuple(formats),
            (*warnings, *found.unsearched_notes),
            unread,
        )


@dataclass(frozen=True, slots=True)
class ListVolumes:
    """Answered with `VolumeList`."""


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """The facts about a `Volume`."""

    name: str
    size: int
    kind: str
    disk: int
    number: int
    type: str
    devices: tuple[str, ...]
    encrypted: tuple[str, ...]
    fault: str

    @classmethod
    def of(cls, volume: Volume) -> Self:
        return cls(
            volume.name,
            volume.size,
            volume.kind,
            volume.disk,
            volume.number,
            volume.type,
            volume.devices,
            volume.encrypted,
            volume.fault,
        )

    def to_volume(self) -> Volume:
        return Volume(
            self.name,
            _UnreadableBlocks(self.size),
            self.kind,
            self.disk,
            self.number,
            type=self.type,
            devices=self.devices,
            encrypted=self.encrypted,
            fault=self.fault,
        )


@dataclass(frozen=True, slots=True)
class VolumeList:
    volumes: tuple[VolumeReport, ...]
    formats: tuple[str, ...]
    """Of the disks."""
    missing: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_volumes(self) -> Volumes:
        return Volumes(tuple(each.to_volume() for each in self.volumes), (), self.warnings, self.missing)


@dataclass(frozen=True, slots=True)
class _UnreadableBlocks:
    """The bytes of a volume that only the sandboxed process can read."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        raise SourceError(f"bytes {offset} to {offset + size} can only be read by the sandboxed reader")


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """Answered with `FileSystemReport`. Volumes are numbered as in the list."""

    number: int


@dataclass(frozen=True, slots=True)
class FileSystemReport:
    kind: str
    label: str
    uuid: str
    subvolumes: tuple[str, ...] | None
    """None if it can have none."""


@dataclass(frozen=True, slots=True)
class ReadVolume:
    """The tree of a volume, or of a subvolume of it."""

    number: int
    subvolume: str | None


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """An open file that both sides have."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class LocateVolume:
    """Answered with `VolumeLocation`."""

    number: int


@dataclass(frozen=True, slots=True)
class VolumeLocation:
    file: FileIdentity | None
    """None if the volume is not one range of one file."""
    offset: int


@dataclass(frozen=True, slots=True)
class MeasureVolume:
    """The most bytes that a copy takes; answered with `VolumeSize`."""

    number: int


@dataclass(frozen=True, slots=True)
class VolumeSize:
    size: int


@dataclass(frozen=True, slots=True)
class CopyVolume:
    """Copy a volume into a file that is requested for it; answered with `VolumeCopy`."""

    number: int


@dataclass(frozen=True, slots=True)
class VolumeCopy:
    file: FileIdentity
