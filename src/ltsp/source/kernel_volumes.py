"""The second reader of file systems: the kernel, which mounts what the first cannot read.

Where volumes lie is found without it, by the process that has no rights (`volume_session`). A volume that is one piece
of a file becomes a loop device, read-only; any other is copied to a nameless file first. The mounts are in no mount
namespace: mounts, devices and files go with their descriptors, also where this process is killed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from ltsp.disk import content
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.file_system import FileSystem
from ltsp.host import btrfs, command, loop
from ltsp.host.privilege import may_mount
from ltsp.host.root import Root
from ltsp.host.system_call import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, new_mount
from ltsp.source import drivers
from ltsp.source.disk_systems import Choice, Found, Search
from ltsp.source.reader import Reader
from ltsp.source.scan import Scan
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.selection import Selection, everything
from ltsp.tree.tree import Tree

_SECTOR: Final = 512
_READ_ONLY: Final = frozenset({errno.EROFS})
_HAS_A_LOG: Final = {content.BTRFS: frozenset({errno.EROFS, errno.EIO})}
"""What a mount of a device that cannot be written to fails with where there is a log to be replayed, and nobody is
shown what was before it. Linux ext4_load_journal, xlog_recover, f2fs_fill_super; btrfs_replay_log"""
_NOT_ALLOWED: Final = frozenset({errno.EPERM, errno.EACCES})
_BLKID_FOUND_NOTHING: Final = (2, 8)
_ROOT_ONLY: Final = "only root may have the kernel mount it"
BY_ROOT: Final = "run the command as root, on the machine itself where this is a container"


@dataclass(slots=True)
class KernelVolumes:
    """Opens the volumes of some disks; all is given back when `opened` closes."""

    reader: Reader
    """Of a `volume_session`."""
    files: Callable[[], Iterable[BinaryIO]]
    """What the process has of others: the disk, and what lies beside it."""
    scratch: Sequence[BinaryIO]
    """What it has to write to, which is ours alone."""
    fstype: str
    alone: bool
    """Whether the kernel reads all, and not only what cannot be read without it."""
    opened: ExitStack
    faults: Faults = field(default_factory=lambda: Faults(skip_unreadable=True))
    copies: bool = False
    """Whether volumes may be copied just now."""
    wanting: dict[str, int] = field(default_factory=dict)
    """Volumes that were not read because they had to be copied, and the bytes that this takes at most."""
    systems: dict[int, FileSystem] = field(default_factory=dict)
    volumes: Volumes = field(init=False)
    formats: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        try:
            listed = _record(self.reader.look({"do": "list"}))
            volumes = tuple(_volume(_record(each)) for each in _items(listed["volumes"]))
            missing = tuple(_texts(listed["missing"]))
            self.volumes = Volumes(volumes, (), tuple(_texts(listed["warnings"])), missing)
            self.formats = tuple(_texts(listed["formats"]))
        except (KeyError, ValueError, TypeError) as error:
            raise _nonsense() from error

    def system(self, choice: Choice, whole: bool) -> Found:
        """The system that is meant, as `Search` finds it.

        What can be read without copies is looked into first: nobody's data is copied to look for a system in it.
        Raises LtspError.
        """
        found = self.system_without_copies(choice, whole)
        if found is None:
            self.copies = True
            found = Search(self.volumes, self._opened).system(choice, whole=whole)
        return found

    def system_without_copies(self, choice: Choice, whole: bool) -> Found | None:
        """None where volumes had to be copied. Raises LtspError."""
        try:
            found = Search(self.volumes, self._opened).system(choice, whole=whole)
        except LtspError:
            if self.wanting:
                return None
            raise
        return None if self.wanting and found.left_out else found

    def _opened(self, volume: Volume) -> FileSystem:
        """Raises FormatError and SourceError."""
        number = next(number for number, each in enumerate(self.volumes.volumes) if each is volume)
        if number not in self.systems:
            self.systems[number] = self._open(number, volume)
        return self.systems[number]

    def _open(self, number: int, volume: Volume) -> FileSystem:
        if self.alone:
            return self._mounted(number, volume)
        try:
            return self._read(number)
        except FormatError:
            raise
        except LtspError as error:
            if drivers.of(volume.kind, self.fstype) is None:
                raise
            try:
                return self._mounted(number, volume)
            except LtspError as second:
                raise _both(error, second) from second

    def _read(self, number: int) -> FileSystem:
        """By the process, which needs no kernel for it."""
        try:
            found = _record(self.reader.look({"do": "open", "volume": number}))
            kind, label, uuid = (str(found[key]) for key in ("kind", "label", "uuid"))
            if found["subvolumes"] is None:
                return _Read(self.reader, number, kind, label, uuid)
            return _ReadDivided(self.reader, number, kind, label, uuid, paths=_texts(found["subvolumes"]))
        except (KeyError, ValueError, TypeError) as error:
            raise _nonsense() from error

    def _mounted(self, number: int, volume: Volume) -> FileSystem:
        driver = drivers.of(volume.kind, self.fstype)
        if driver is None:
            given = self.fstype not in ("", "auto")
            what = f"fstype={printable(self.fstype)}, which the kernel does not mount here" if given else ""
            raise SourceError(what or f"it holds {content.named(volume.kind)}")
        if not may_mount():
            raise SourceError(_ROOT_ONLY, BY_ROOT)
        try:
            device, root = self._attached(number, volume, *driver)
        except OSError as error:
            raise _refusal(driver[0], error) from error
        told = _superblock(device)
        kind = driver[0]
        if volume.kind == content.EXT and told.get("TYPE", "") in drivers.NAMES:
            kind = told["TYPE"]
        made = (self, kind, told.get("LABEL_ENC", ""), told.get("UUID", ""), root)
        return _MountedDivided(*made, device=device) if driver[0] == content.BTRFS else _Mounted(*made)

    def _attached(self, number: int, volume: Volume, kind: str, options: drivers.Options) -> tuple[str, Root]:
        """The device, and what is mounted of it. Raises OSError, SourceError and FormatError."""
        place = self._place(number, volume)
        if place is not None:
            try:
                return self._mount(*place, volume.size, kind, options, writable=False)
            except OSError as error:
                if error.errno not in _HAS_A_LOG.get(kind, _READ_ONLY):
                    raise
        if place is None or place[0] not in self.scratch:
            place = self._copied(number, volume), 0
        return self._mount(*place, volume.size, kind, options, writable=True)

    def _mount(
        self, file: BinaryIO, offset: int, size: int, kind: str, options: drivers.Options, *, writable: bool
    ) -> tuple[str, Root]:
        with ExitStack() as opened:
            size = size // _SECTOR * _SECTOR
            device = opened.enter_context(loop.attached(file.fileno(), offset, size, writable=writable))
            root = opened.enter_context(Root(_mounted(kind, device, options)))
            self.opened.push(opened.pop_all())
        return device, root

    def subvolume(self, device: str, options: drivers.Options) -> Root:
        """Raises SourceError."""
        try:
            return self.opened.enter_context(Root(_mounted("btrfs", device, options)))
        except OSError as error:
            raise _refusal("btrfs", error) from error

    def _place(self, number: int, volume: Volume) -> tuple[BinaryIO, int] | None:
        """The file that it is a range of, and where it begins; None where it is none that can be a device."""
        answer = self.reader.look({"do": "place", "volume": number})
        if answer is None:
            return None
        try:
            place = _record(answer)
            file, offset = self._file(place["file"]), int(str(place["offset"]))
        except (KeyError, ValueError, TypeError) as error:
            raise _nonsense() from error
        if offset < 0 or offset + volume.size > os.lseek(file.fileno(), 0, os.SEEK_END):
            raise _nonsense()
        return None if offset % _SECTOR else (file, offset)

    def _file(self, identity: object) -> BinaryIO:
        """One of ours, by what the process calls it. Raises ValueError."""
        for file in (*self.files(), *self.scratch):
            status = os.fstat(file.fileno())
            if [status.st_dev, status.st_ino] == identity:
                return file
        raise ValueError("no file of ours")

    def _copied(self, number: int, volume: Volume) -> BinaryIO:
        """Raises SourceError where there is no room, or where no copies are wanted now."""
        if not self.copies:
            self.wanting[volume.name] = int(str(self.reader.look({"do": "measure", "volume": number})))
            raise SourceError("it has to be copied before the kernel can read it")
        try:
            answer = _record(self.reader.look({"do": "copy", "volume": number}))
            file = self._file(answer["file"])
        except (KeyError, ValueError, TypeError) as error:
            raise _nonsense() from error
        while self.reader.look({"do": "go on"}):
            pass
        return file


@dataclass(slots=True)
class _Read:
    """Read by the process."""

    reader: Reader
    number: int
    kind: str
    label: str
    uuid: str
    trees: dict[str | None, Tree] = field(default_factory=dict)

    def tree(self, selection: Selection = everything) -> Tree:
        return self._tree(None, selection)

    def _tree(self, path: str | None, selection: Selection) -> Tree:
        if path not in self.trees:
            below = {} if path is None else {"subvolume": path}
            self.trees[path] = self.reader.tree({"volume": self.number, **below})
        return self.trees[path].select(selection)


@dataclass(slots=True)
class _ReadDivided(_Read):
    paths: Sequence[str] = ()

    def subvolume_paths(self) -> Sequence[str]:
        return self.paths

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return self._tree(path, selection)


@dataclass(slots=True)
class _Mounted:
    """Mounted by the kernel."""

    volumes: KernelVolumes
    kind: str
    label: str
    uuid: str
    root: Root

    def tree(self, selection: Selection = everything) -> Tree:
        return Scan(selection, self.volumes.faults).run(self.root)


@dataclass(slots=True)
class _MountedDivided(_Mounted):
    """btrfs: each subvolume is mounted by itself."""

    device: str
    roots: dict[str, Root] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def subvolume_paths(self) -> Sequence[str]:
        if not self.paths:
            top = self.volumes.subvolume(self.device, {"subvolid": str(btrfs.TOP)})
            try:
                self.paths = sorted(map(decode, _below(top, b"")), key=encode)
            except OSError as error:
                raise _refusal("btrfs", error) from error
        return self.paths

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        if path not in self.roots:
            which = {"subvol": f"/{path}"} if path else {"subvolid": str(btrfs.TOP)}
            self.roots[path] = self.volumes.subvolume(self.device, which)
        return Scan(selection, self.volumes.faults).run(self.roots[path])


def _below(top: Root, path: bytes) -> Iterator[bytes]:
    """A subvolume and all that are nested in it, by their paths from the top one. Raises OSError."""
    yield path
    for one in btrfs.nested(top.directory(path).number):
        yield from _below(top, path + b"/" + one.path if path else one.path)


def _mounted(kind: str, device: str, options: drivers.Options) -> int:
    """The root of the file system on a device, for us alone; a log is replayed where it can be. Raises OSError."""
    every = {b"ro": None, **{key.encode(): None if value is None else encode(value) for key, value in options.items()}}
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    return new_mount(kind.encode(), device.encode(), every, attributes)


def _superblock(device: str) -> dict[str, str]:
    """Type, label and UUID, as blkid(8) tells them; nothing where it cannot."""
    try:
        found = command.run(["blkid", "-p", "-o", "udev", device], accepted=(0, *_BLKID_FOUND_NOTHING))
    except LtspError:
        return {}
    pairs = (line.partition(b"=") for line in found.stdout.splitlines() if line.startswith(b"ID_FS_"))
    return {key.removeprefix(b"ID_FS_").decode(): decode(_plain(value)) for key, _, value in pairs}


def _plain(value: bytes) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), value)


def _refusal(kind: str, error: OSError) -> LtspError:
    if error.errno in _NOT_ALLOWED:
        return SourceError(_ROOT_ONLY, BY_ROOT)
    if error.errno == errno.ENODEV:
        return SourceError(f"this kernel does not know {kind}", f"install the module {kind} for this kernel")
    if error.errno == errno.EEXIST:
        return SourceError(f"{kind} with the same UUID is mounted on this machine", "unmount that for as long")
    if error.filename:
        return SourceError(f"it needs a loop device, and {error.filename} gives none: {error.strerror}", BY_ROOT)
    return SourceError(f"the kernel cannot mount it as {kind}: {error.strerror}", "the last lines of dmesg say why")


def _both(first: LtspError, second: LtspError) -> SourceError:
    """The first reader says why it is not read, the second one what can be done."""
    hints = dict.fromkeys(filter(None, (first.hint, second.hint)))
    return SourceError(f"{first.message}; {second.message}", ", or ".join(hints))


def _volume(record: Mapping[str, object]) -> Volume:
    size, disk, number = (int(str(record[key])) for key in ("size", "disk", "number"))
    name, kind, fault = (str(record[key]) for key in ("name", "kind", "fault"))
    return Volume(name, _Elsewhere(size), kind, disk, number, devices=tuple(_texts(record["devices"])), fault=fault)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Bytes that the process has."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        raise SourceError(f"bytes {offset} to {offset + size} are not here")


def _record(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _texts(value: object) -> list[str]:
    return [str(each) for each in _items(value)]


def _nonsense() -> FormatError:
    return FormatError("what its reader says makes no sense")
