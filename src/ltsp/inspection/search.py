"""Finds the systems on disks by their contents, then assembles them according to their fstab."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ltsp.disk import probe
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.file_system import FileSystem, SubvolumeFileSystem
from ltsp.inspection import fstab, live_medium, root_file_systems
from ltsp.inspection.found_system import FileSystemLocation, FoundSystem, SystemChoice
from ltsp.inspection.fstab import FstabEntry, parse_device
from ltsp.inspection.live_medium import LiveMedium
from ltsp.inspection.mount_plan import is_vital
from ltsp.inspection.root_file_systems import is_system
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode, printable
from ltsp.tree.node import File
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_OTHER_DISKS_HINT = "name the others after it: FILE,disk=SECOND,disk=THIRD"
_INSTALLED_HINT = "name the disk that the system is installed on"
_INSTALLER_HINT = f"name a live medium, or install the system in a virtual machine and {_INSTALLED_HINT}"
"""The hint for installation media without a live system."""
_SYSTEM_SUBVOLUMES = frozenset({"@", "@rootfs", "root"})
"""Subvolumes that the installers of Ubuntu, Debian and Fedora use for the system; others are its snapshots."""
_SYSTEM_KINDS = frozenset({probe.EXT, probe.XFS, probe.BTRFS, probe.EROFS, "bcachefs", "f2fs", probe.LUKS})
"""Kinds of volumes that Linux is installed on."""
_NON_SYSTEM_KINDS = frozenset({probe.SWAP, probe.BITLOCKER, "apfs", "exfat", "hfsplus", "ntfs", "refs", "ufs"})
"""Kinds of volumes that Linux is never installed on."""
_MAX_TEXT_SIZE = 1 << 20
_MAX_SHOWN = 8
_MARKER_DIRECTORIES = frozenset({"etc", "proc", "usr/lib", "lib", *fstab.MOUNT_POINTS, *live_medium.MEDIUM_DIRECTORIES})
"""Directories that identify a system."""

_MEDIUM_KINDS = frozenset({probe.ISO9660, probe.VFAT})
"""File systems of live media and USB sticks."""
_PACKED_SYSTEM_NAME = re.compile(r".*\.(squashfs|sqfs|sfs|erofs)|linuxfs", re.IGNORECASE)
"""Names of the files on them that hold systems: Arch and SystemRescue, Gentoo, Manjaro, antiX."""
_MAX_PACKED_DEPTH = 3

OpenVolume = Callable[[Volume], FileSystem]
"""Raises FormatError and SourceError."""


@dataclass(slots=True)
class SystemSearch:
    volumes: Volumes
    open_volume: OpenVolume
    opened: dict[int, FileSystem] = field(default_factory=dict)
    faults: dict[int, LtspError] = field(default_factory=dict)
    """Why a volume could not be read, by its index."""

    def find_system(self, choice: SystemChoice, *, require_system: bool) -> FoundSystem:
        """The chosen or only system; with `require_system` unset, any single file system.

        Raises SourceError if there is none, or several without a choice, and FormatError.
        """
        locations = list(self._find_locations(choice))
        if choice.subvolume and not locations:
            raise self._no_subvolume_error(choice.subvolume)
        systems = [location for location in locations if is_system(_peek(location))]
        if not systems:
            for location in locations if choice.required_path else ():
                if location.tree(_select_path(choice.required_path)).resolve(choice.required_path) is not None:
                    return FoundSystem(location, "", live=LiveMedium.of(_peek(location)))
            systems = list(self._find_nested_root(locations))
        if not systems:
            for location in locations:
                if live := LiveMedium.of(_peek(location)):
                    return FoundSystem(location, "", live=live)
            if not require_system and len(locations) == 1:
                return FoundSystem(locations[0], "")
            raise self._not_found_error(locations, choice, require_system=require_system)
        if len(systems) > 1:
            raise _ambiguous_error(systems)
        found = self._assemble(systems[0])
        return found if choice.partition else replace(found, unsearched_notes=tuple(self._describe_skipped()))

    def _describe_skipped(self) -> Iterator[str]:
        for number, fault in self.faults.items():
            volume = self.volumes.volumes[number]
            if volume.kind in _SYSTEM_KINDS:
                yield f"{printable(volume.name)} was not searched, and may hold another system: {fault}"

    def _find_locations(self, choice: SystemChoice) -> Iterator[FileSystemLocation]:
        chosen = [
            number for number, volume in enumerate(self.volumes.volumes) if _matches_partition(volume, choice.partition)
        ]
        if choice.partition and not chosen:
            raise SourceError(f"no partition {printable(choice.partition)}; it has {self._list_volumes()}")
        for number in chosen:
            system = self._open(number)
            if system is None:
                if choice.partition:
                    fault = self.faults[number]
                    raise SourceError(f"{printable(self.volumes.volumes[number].name)}: {fault.message}", fault.hint)
                continue
            yield from self._find_subvolumes(self.volumes.volumes[number], system, choice.subvolume)

    def _find_subvolumes(self, volume: Volume, system: FileSystem, chosen: str) -> Iterator[FileSystemLocation]:
        names = system.subvolume_paths() if isinstance(system, SubvolumeFileSystem) else []
        if chosen:
            yield from _find_chosen(volume, system, names, chosen.strip("/"))
            return
        yield FileSystemLocation(volume, system)
        if is_system(_peek(FileSystemLocation(volume, system))):
            return
        locations = [FileSystemLocation(volume, system, name) for name in names if name]
        usual = (
            location
            for location in locations
            if location.subvolume in _SYSTEM_SUBVOLUMES and is_system(_peek(location))
        )
        chosen_location = next(usual, None)
        yield from locations if chosen_location is None else (chosen_location,)

    def _open(self, number: int) -> FileSystem | None:
        if number in self.opened:
            return self.opened[number]
        if number in self.faults:
            return None
        volume = self.volumes.volumes[number]
        try:
            if volume.fault:
                raise SourceError(volume.fault)
            self.opened[number] = self.open_volume(volume)
        except LtspError as error:
            self.faults[number] = error
            return None
        return self.opened[number]

    def _find_nested_root(self, locations: Sequence[FileSystemLocation]) -> Iterator[FileSystemLocation]:
        """Root file systems in directories. Raises SourceError if there are several without a default."""
        carriers = [location.tree(root_file_systems.select_markers) for location in locations]
        for location, carrier in zip(locations, carriers, strict=True):
            if every := root_file_systems.find_nested_roots(carrier):
                others = [each for each in carriers if each is not carrier]
                yield replace(location, nested=root_file_systems.choose_bootable_root(carrier, every, others))
                return  # other subvolumes may contain the same system

    def _assemble(self, location: FileSystemLocation) -> FoundSystem:
        """The system with the parts in its fstab, and those that partition types add."""
        tree = _peek(location)
        encrypted = fstab.parse_crypttab(_read_text(tree, "etc/crypttab"))
        parts: list[tuple[str, FileSystemLocation, str]] = []
        listed = fstab.parse_system_entries(_read_text(tree, "etc/fstab"))
        left_out: list[tuple[str, str, str]] = []
        for entry in listed:
            try:
                parts.append(
                    (entry.path, self._find_part(entry, location, encrypted.get(entry.spec, "")), "listed in its fstab")
                )
            except LtspError as error:
                if is_vital(entry.path) and not entry.is_optional:
                    what = f"its fstab mounts {printable(entry.spec)} at /{printable(entry.path)}"
                    raise type(error)(f"{what}: {error.message}", error.hint) from error
                left_out.append((entry.path, entry.spec, error.message))
        paths = {entry.path for entry in listed}
        for each in fstab.discover_partitions(self.volumes.volumes, location.volume, tree, paths):
            volume, system = self.volumes.volumes[each.number], self._open(each.number)
            if system is None:
                left_out.append((each.path, volume.name, str(self.faults[each.number])))
            else:
                parts.append((each.path, FileSystemLocation(volume, system), each.reason))
        return FoundSystem(location, _read_title(tree), tuple(sorted(parts, key=lambda part: part[0])), tuple(left_out))

    def _find_part(self, entry: FstabEntry, root: FileSystemLocation, encrypted: str) -> FileSystemLocation:
        """`encrypted` is the encrypted volume that contains it according to crypttab(5), or empty.

        Raises SourceError if it is not found or cannot be read.
        """
        wanted_device, encrypted_device = parse_device(entry.spec), parse_device(encrypted)
        for number, volume in enumerate(self.volumes.volumes):
            names = {parse_device(name) for name in volume.devices}
            if volume.number:
                names.add(fstab.FstabDevice("partition", f"{volume.disk}/{volume.number}"))
            if wanted_device in names or (encrypted and encrypted_device in map(parse_device, volume.encrypted)):
                system = self._open(number)
                if system is None:
                    raise SourceError(self.faults[number].message, self.faults[number].hint)
                return self._locate_subvolume(entry, volume, system)
        for number, volume in enumerate(self.volumes.volumes):
            system = self._open(number)
            if system is None:
                continue
            own_devices = {fstab.FstabDevice("uuid", system.uuid.lower()), fstab.FstabDevice("label", system.label)}
            if wanted_device.value and wanted_device in own_devices:
                return self._locate_subvolume(entry, volume, system)
        unread = [f"{printable(self.volumes.volumes[each].name)}: {why}" for each, why in self.faults.items()]
        because = f"; cannot read {'; '.join(unread[:_MAX_SHOWN])}" if unread else ""
        raise SourceError(
            f"not found on any volume of the given disks{because}",
            f"{printable(root.volume.name)} alone is not the whole system: {_OTHER_DISKS_HINT}",
        )

    @staticmethod
    def _locate_subvolume(entry: FstabEntry, volume: Volume, system: FileSystem) -> FileSystemLocation:
        return FileSystemLocation(volume, system, entry.subvolume or None)

    def _no_subvolume_error(self, name: str) -> SourceError:
        every = [
            one
            for each in self.opened.values()
            if isinstance(each, SubvolumeFileSystem)
            for one in each.subvolume_paths()
        ]
        existing = ", ".join(map(printable, filter(None, every[: _MAX_SHOWN + 1]))) or "none"
        return SourceError(f"no subvolume {printable(name)}; it has {existing}")

    def _not_found_error(
        self, locations: Sequence[FileSystemLocation], choice: SystemChoice, *, require_system: bool
    ) -> LtspError:
        if locations and not require_system and not choice.partition:
            return SourceError(
                f"it has several file systems: {_describe_locations(locations)}", "choose one: FILE,partition=NUMBER"
            )
        locked = [number for number, each in enumerate(self.volumes.volumes) if each.kind == probe.LUKS]
        if locked and not choice.partition:
            faults = "; ".join(f"{printable(self.volumes.volumes[each].name)}: {self.faults[each]}" for each in locked)
            return SourceError(f"no system found outside its encrypted volumes: {faults}")
        if not locations and len(self.faults) == 1:
            [(number, fault)] = self.faults.items()
            name = self.volumes.volumes[number].name
            where = "" if name == "whole disk" else f"{printable(name)}: "
            return SourceError(f"{where}{fault.message}", fault.hint)
        if self.volumes.missing:
            every = self.volumes.missing
            absent = ", ".join(every[:_MAX_SHOWN]) + (
                f" and {len(every) - _MAX_SHOWN} more" if len(every) > _MAX_SHOWN else ""
            )
            return SourceError(f"it is one of several disks: {absent} is on another one", _OTHER_DISKS_HINT)
        what = f"no Linux root file system found on it; it has {self._list_volumes()}"
        packed = next(filter(None, map(_find_packed_system, locations)), "")
        if packed:
            return SourceError(f"{what}, which holds {printable(packed)}", f"specify it: FILE,,{printable(packed)}")
        return SourceError(what, self._choose_hint())

    def _choose_hint(self) -> str:
        """The hint for the volume that most likely holds a system."""
        kinds = [volume.kind for volume in self.volumes.volumes]
        hints = [(kinds[number] in _NON_SYSTEM_KINDS, each.hint) for number, each in self.faults.items()]
        default = _INSTALLER_HINT if probe.ISO9660 in kinds else _INSTALLED_HINT
        return min((hint for hint in hints if hint[1]), key=lambda hint: hint[0], default=(False, default))[1]

    def _list_volumes(self) -> str:
        """All volumes, safe to print."""
        listed = []
        for number, volume in enumerate(self.volumes.volumes[:_MAX_SHOWN]):
            fault = self.faults.get(number)
            what = self.opened[number].kind if number in self.opened else fault and fault.message
            listed.append(f"{printable(volume.name)} ({what or probe.describe_kind(volume.kind)})")
        more = len(self.volumes.volumes) - _MAX_SHOWN
        return ", ".join(listed) + (f", and {more} more" if more > 0 else "") or "no volumes"


def _find_chosen(volume: Volume, system: FileSystem, names: Sequence[str], chosen: str) -> Iterator[FileSystemLocation]:
    """The subvolume with that path, or the root file system in that directory of a subvolume."""
    if chosen in names:
        yield FileSystemLocation(volume, system, chosen)
        return
    for location in (
        FileSystemLocation(volume, system),
        *(FileSystemLocation(volume, system, name) for name in names if name),
    ):
        if inside := root_file_systems.find_nested_root_at(location.tree(root_file_systems.select_markers), chosen):
            yield replace(location, nested=inside)


def _matches_partition(volume: Volume, partition: str) -> bool:
    if not partition:
        return True
    if partition in {volume.name, *volume.devices}:
        return True
    disk, colon, number = partition.rpartition(":")
    if not number.isdecimal() or volume.number != int(number):
        return False
    return not colon or (disk.isdecimal() and volume.disk + 1 == int(disk))


def _ambiguous_error(systems: Sequence[FileSystemLocation]) -> SourceError:
    location = systems[0]
    volume = location.volume
    first = f"{volume.disk + 1}:{volume.number}" if volume.disk else printable(str(volume.number or volume.name))
    how = (
        f"FILE,subvol={printable(location.subvolume)}" if location.subvolume is not None else f"FILE,partition={first}"
    )
    return SourceError(f"it has several systems: {_describe_locations(systems)}", f"choose one, such as {how}")


def _describe_locations(locations: Sequence[FileSystemLocation]) -> str:
    named = [
        f"{_read_title(_peek(location)) or 'a file system'} ({location.description})"
        for location in locations[:_MAX_SHOWN]
    ]
    return "; ".join(map(printable, named)) + ("; and more" if len(locations) > _MAX_SHOWN else "")


def _peek(location: FileSystemLocation) -> Tree:
    """Just enough of the tree to identify it.

    Raises FormatError if it is damaged.
    """

    def select(path: str, directory: bool) -> Inclusion:
        if not directory or path in _MARKER_DIRECTORIES:
            return Inclusion.ALL
        parent, slash, _ = path.rpartition("/")
        return Inclusion.EMPTIED if not slash or parent in fstab.MOUNT_POINTS else Inclusion.NOTHING

    return location.tree(select)


def _find_packed_system(location: FileSystemLocation) -> str:
    """The largest file of a medium whose name indicates a packed system; empty if there is none."""
    if location.volume.kind not in _MEDIUM_KINDS:
        return ""

    def select(path: str, directory: bool) -> Inclusion:
        return Inclusion.NOTHING if directory and path.count("/") >= _MAX_PACKED_DEPTH else Inclusion.ALL

    found = {
        path: node.content.size
        for path, node in location.tree(select).walk()
        if isinstance(node, File) and _PACKED_SYSTEM_NAME.fullmatch(path.rpartition("/")[2])
    }
    return max(found, key=lambda path: found[path], default="")


def _select_path(path: str) -> Selection:
    """Selects the path and the directories above it; links are not followed."""
    names = path.strip("/").split("/")
    above = {"/".join(names[:end]) for end in range(1, len(names))}

    def select(each: str, directory: bool) -> Inclusion:
        if not directory or each in above:
            return Inclusion.ALL
        return Inclusion.EMPTIED if each.rpartition("/")[0] in above or "/" not in each else Inclusion.NOTHING

    return select


def _read_title(tree: Tree) -> str:
    for line in (_read_text(tree, "etc/os-release") or _read_text(tree, "usr/lib/os-release")).splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            try:
                return " ".join(shlex.split(value))
            except ValueError:
                return ""
    return ""


def _read_text(tree: Tree, path: str) -> str:
    file = tree.follow(path)
    if not isinstance(file, File):
        return ""
    try:
        return decode(read_small_file(file, path, _MAX_TEXT_SIZE))
    except (OSError, FormatError):
        return ""
