"""Private kernel mounts: from a range of an open file to the trees of a file system."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from ltsp.disk import probe
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.file_system import FileSystem
from ltsp.host import btrfs, command
from ltsp.host.block_device import attach_loop_device
from ltsp.host.privilege import can_mount
from ltsp.host.root import RootDirectory
from ltsp.host.system_call import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    create_mount,
)
from ltsp.inspection import kernel_drivers
from ltsp.source.directory.scan import Scan
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode
from ltsp.tree.selection import DirectoryFilter, Inclusion, Selection, select_all
from ltsp.tree.tree import Tree

RUN_AS_ROOT_HINT: Final = "run the command as root, outside any container"
SECTOR_SIZE: Final = 512
"""Bytes; the size of a device is a multiple."""
_MODULE_NAMES: Final = {"iso9660": "isofs"}
"""Kernel modules whose name differs from that of the file system."""
_ROOT_ONLY: Final = "mounting it requires root"
_MOUNT_ATTRIBUTES: Final = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
_PERMISSION_ERRNOS: Final = frozenset({errno.EPERM, errno.EACCES})
_LOG_REPLAY_ERRNOS: Final = {probe.BTRFS: frozenset({errno.EROFS, errno.EIO})}
"""Errors of mounting a read-only device whose log has to be replayed; for other file systems it is EROFS. The state
before the replay is never used. Linux btrfs_replay_log; ext4_load_journal, xlog_recover"""
_BLKID_NOTHING_FOUND: Final = (2, 8)
"""Exit statuses of blkid(8)."""
_MAX_SUBVOLUMES: Final = 100_000


def require_mount_privilege() -> None:
    """Raises SourceError if the process may not mount."""
    if not can_mount():
        raise SourceError(_ROOT_ONLY, RUN_AS_ROOT_HINT)


class LogReplayNeeded(Exception):
    """The file system cannot be mounted read-only: its log has to be replayed."""


@dataclass(slots=True)
class KernelMounts:
    """The mounts of a source, until `stack` closes."""

    stack: ExitStack
    faults: Faults
    """Records files that cannot be read."""

    def mount(
        self, file: BinaryIO, offset: int, size: int, driver: kernel_drivers.Driver, *, writable: bool = False
    ) -> FileSystem:
        """The file system in a range of the file, which is changed only if `writable`, by replaying its log.

        Raises SourceError, and LogToReplay.
        """
        with ExitStack() as stack:
            try:
                size = size // SECTOR_SIZE * SECTOR_SIZE
                device = stack.enter_context(attach_loop_device(file.fileno(), offset, size, writable=writable))
                root = stack.enter_context(RootDirectory(_mount(driver, device)))
            except OSError as error:
                if not writable and error.errno in _LOG_REPLAY_ERRNOS.get(driver.name, {errno.EROFS}):
                    raise LogReplayNeeded from error
                raise _mount_error(driver.name, error) from error
            self.stack.push(stack.pop_all())
        superblock = _probe_superblock(device)
        kind = superblock.get("TYPE", "")
        kind = (
            kind
            if kind in kernel_drivers.KINDS_BY_FSTYPE and driver.name in kernel_drivers.KINDS_BY_FSTYPE
            else driver.name
        )
        common = (self, kind, superblock.get("LABEL_ENC", ""), superblock.get("UUID", ""), root)
        return _MountedBtrfs(*common, driver, device) if driver.name == probe.BTRFS else _MountedFileSystem(*common)

    def mount_subvolume(
        self, driver: kernel_drivers.Driver, device: str, subvolume_option: kernel_drivers.Options
    ) -> RootDirectory:
        """Raises SourceError."""
        try:
            return self.stack.enter_context(RootDirectory(_mount(driver, device, subvolume_option)))
        except OSError as error:
            raise _mount_error(driver.name, error) from error


@dataclass(slots=True)
class _MountedFileSystem:
    mounts: KernelMounts
    kind: str
    label: str
    uuid: str
    root: RootDirectory

    def tree(self, selection: Selection = select_all) -> Tree:
        return Scan(_empty_excluded(selection), self.mounts.faults).run(self.root)


@dataclass(slots=True)
class _MountedBtrfs(_MountedFileSystem):
    """btrfs: each subvolume is mounted by itself."""

    driver: kernel_drivers.Driver
    device: str
    roots: dict[str, RootDirectory] = field(default_factory=dict)
    paths: Sequence[str] = ()

    def subvolume_paths(self) -> Sequence[str]:
        if not self.paths:
            try:
                self.paths = sorted(map(decode, _list_subvolumes(self._root(""))), key=encode)
            except OSError as error:
                raise SourceError(f"cannot list its subvolumes: {error.strerror}") from error
        return self.paths

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return Scan(_empty_excluded(selection), self.mounts.faults).run(self._root(path))

    def _root(self, path: str) -> RootDirectory:
        if path not in self.roots:
            subvolume_option = {"subvol": f"/{path}"} if path else {"subvolid": str(btrfs.TOP_LEVEL_SUBVOLUME)}
            self.roots[path] = self.mounts.mount_subvolume(self.driver, self.device, subvolume_option)
        return self.roots[path]


def _empty_excluded(selection: Selection) -> Selection:
    """A selection that also empties the directories that its method `entered` excludes."""
    entered: DirectoryFilter | None = getattr(selection, "entered", None)
    if entered is None:
        return selection

    def select(path: str, directory: bool) -> Inclusion:
        inclusion = selection(path, directory)
        return Inclusion.EMPTIED if directory and inclusion is Inclusion.ALL and not all(entered([path])) else inclusion

    return select


def _list_subvolumes(top: RootDirectory) -> Iterator[bytes]:
    """The top subvolume and all others, by their paths from there. Raises OSError, and FormatError for too many."""
    pending, count = [b""], 0
    while pending:
        path = pending.pop()
        yield path
        for subvolume in btrfs.list_nested_subvolumes(top.open_directory(path).number):
            pending.append(path + b"/" + subvolume.path if path else subvolume.path)
            count += 1
            if count > _MAX_SUBVOLUMES:
                raise FormatError(f"the btrfs file system has more than {_MAX_SUBVOLUMES} subvolumes")


def _mount(driver: kernel_drivers.Driver, device: str, extra_options: kernel_drivers.Options | None = None) -> int:
    """The root of the file system on a device; its log is replayed if the device is writable. Raises OSError."""
    options = {"ro": None, **driver.options, **(extra_options or {})}
    as_bytes = {key.encode(): None if value is None else encode(value) for key, value in options.items()}
    return create_mount(driver.name.encode(), device.encode(), as_bytes, _MOUNT_ATTRIBUTES)


def _probe_superblock(device: str) -> dict[str, str]:
    """Type, label and UUID from blkid(8); empty if it fails."""
    try:
        found = command.run(["blkid", "-p", "-o", "udev", device], accepted_statuses=(0, *_BLKID_NOTHING_FOUND))
    except LtspError:
        return {}
    pairs = (line.partition(b"=") for line in found.stdout.splitlines() if line.startswith(b"ID_FS_"))
    return {key.removeprefix(b"ID_FS_").decode(): decode(_unescape(value)) for key, _, value in pairs}


def _unescape(value: bytes) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), value)


def _mount_error(kind: str, error: OSError) -> LtspError:
    if error.errno in _PERMISSION_ERRNOS:
        return SourceError(_ROOT_ONLY, RUN_AS_ROOT_HINT)
    if error.errno == errno.ENODEV:
        module = _MODULE_NAMES.get(kind, kind)
        return SourceError(f"this kernel does not support {kind}", f"install the kernel module {module}")
    if error.errno == errno.EEXIST:
        return SourceError(f"a {kind} file system with the same UUID is mounted on this machine", "unmount that first")
    if error.filename:
        return SourceError(f"cannot get a loop device from {error.filename}: {error.strerror}", RUN_AS_ROOT_HINT)
    return SourceError(
        f"the kernel cannot mount it as {kind}: {error.strerror}", "for the reason, see the last lines of dmesg"
    )
