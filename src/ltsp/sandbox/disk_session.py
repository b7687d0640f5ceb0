"""The sandboxed process for disks: from open files to a system and its tree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from ltsp.disk import probe
from ltsp.disk.image import Disk, open_disk
from ltsp.disk.volume import sector_cipher
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.btrfs import volume as btrfs
from ltsp.filesystem.ext import volume as ext
from ltsp.filesystem.file_system import FileSystem
from ltsp.filesystem.iso import volume as iso
from ltsp.filesystem.vfat import volume as vfat
from ltsp.filesystem.xfs import volume as xfs
from ltsp.inspection import kernel_drivers
from ltsp.inspection.found_system import FoundSystem, SystemChoice
from ltsp.inspection.search import SystemSearch
from ltsp.sandbox.worker import Caller, main
from ltsp.storage import lzo
from ltsp.storage.blocks import Blocks
from ltsp.tree.name import printable
from ltsp.tree.selection import DirectoryFilter
from ltsp.tree.tree import Tree

SCRATCH = ""
"""Requested in place of a sibling: an unnamed file to unpack into."""
lzo.load_native()  # load the library now: after confinement it cannot be read
with suppress(LtspError):
    sector_cipher.load_library()  # likewise
with suppress(ImportError):
    import xxhash  # noqa: F401 - likewise
_READERS: dict[str, Callable[[Blocks], FileSystem]] = {
    probe.EXT: ext.open,
    probe.XFS: xfs.open,
    probe.BTRFS: btrfs.open,
    probe.ISO9660: iso.open,
    probe.VFAT: vfat.open,
}


@dataclass(frozen=True, slots=True)
class DiskSession:
    volumes: Volumes
    found: FoundSystem
    formats: tuple[str, ...]
    warnings: tuple[str, ...]
    unread: bool
    """Whether there is an unread file system that the kernel may be able to read."""

    def query(self, _question: dict[str, object]) -> object:
        """The system found, for `ltsp.source.disk.disk`."""
        return {**self.found.to_json(self.formats, self.warnings), "unread": self.unread}

    def tree(self, _question: dict[str, object], entered: DirectoryFilter) -> Tree:
        return self.found.tree(entered)


def begin(files: list[BinaryIO], caller: Caller, options: dict[str, object]) -> DiskSession:
    """`options`: `partition`, `subvolume`, `fstype`, `whole` if it has to be a system, `holding` a path that has to
    exist instead, `unlock` if there is a key.

    Raises FormatError and SourceError.
    """
    disks = [open_numbered_disk(number, file, caller) for number, file in enumerate(files)]
    volumes = Volumes.of(disks, caller.find_key if options.get("unlock") else None)
    wanted = str(options.get("fstype", ""))
    search = SystemSearch(volumes, lambda volume: open_volume(volume, wanted))
    choice = SystemChoice(*(str(options.get(key, "")) for key in ("partition", "subvolume", "holding")))
    found = search.find_system(choice, whole=bool(options.get("whole", True)))
    formats = tuple(" in ".join(filter(None, (disk.format, disk.compression))) for disk in disks)
    warnings = (*(warning for disk in disks for warning in disk.warnings), *volumes.warnings)
    unread = [volumes.volumes[number] for number in search.faults]
    mountable = any(not each.fault and kernel_drivers.find_driver(each.kind, wanted) is not None for each in unread)
    return DiskSession(volumes, found, formats, warnings, mountable)


def format_sibling(number: int, name: str) -> str:
    """The name for requesting a file that a disk refers to."""
    return f"{number}/{name}"


def open_numbered_disk(number: int, file: BinaryIO, caller: Caller) -> Disk:
    """Open a disk by its number, from 0. Raises FormatError and SourceError."""
    try:
        return open_disk(
            file,
            open_sibling=lambda name: caller(format_sibling(number, name)),
            scratch=lambda: caller(SCRATCH),
            working=caller.working,
        )
    except LtspError as error:
        if not number:
            raise
        raise type(error)(f"disk {number + 1}: {error.message}", error.hint) from error


def open_volume(volume: Volume, fstype: str) -> FileSystem:
    """Raises SourceError for an unsupported file system, and the errors of its reader."""
    kind = volume.kind if fstype in ("", "auto") else kernel_drivers.NAMES.get(fstype, fstype)
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


if __name__ == "__main__":
    main(begin)
