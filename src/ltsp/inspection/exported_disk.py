"""Finds the disk of a virtual machine in its exported archive: an OVA, a Vagrant box, a cloud's `disk.raw`.

DSP0243 (OVF); Vagrant, docs/boxes/format; `incus export` of a virtual machine.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Final

from ltsp.errors import LtspError, SourceError
from ltsp.inspection.live_medium import format_paths
from ltsp.tree.name import printable, sort_names
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

_DISK_SUFFIXES: Final = frozenset({".img", ".qcow2", ".raw", ".vdi", ".vhd", ".vhdx", ".vmdk"})
_COMPRESSION_SUFFIXES: Final = (".bz2", ".gz", ".xz", ".zst")
"""Suffixes that may follow one of those: a descriptor's `ovf:compression`, and manual compression."""
_SPLIT_DISK_NAME: Final = re.compile(r"(.+)\.\d{9}")
"""A part of a disk split by a descriptor's `ovf:chunkSize`. DSP0243, 7.1"""
_UNNAMED_COPY_PATH: Final = re.compile(r"/proc/self/fd/\d+:? ?")
"""The name, in messages, of the unnamed file that the disk was copied to."""
_DESCRIPTOR_SUFFIXES: Final = (".ovf", "metadata.json", "vagrantfile")
"""Suffixes of the descriptors of an OVA and of a box."""
_BOOT_FILE_PREFIXES: Final = ("init", "boot.", "efi", "grub")
"""Prefixes of other files with these suffixes: initrds and boot sectors."""


def find_disks(tree: Tree) -> tuple[str, ...]:
    """The paths of the files in an archive that are disks, judging by their names."""
    paths = (path for path, node in tree.walk() if isinstance(node, File))
    return tuple(path for path in paths if _is_disk(path.rpartition("/")[2].lower()))


def _is_disk(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return os.path.splitext(stem if suffix in _COMPRESSION_SUFFIXES else name)[
        1
    ] in _DISK_SUFFIXES and not name.startswith(_BOOT_FILE_PREFIXES)


def check_holds_disk(tree: Tree, archive: str) -> None:
    """Raises SourceError for an exported virtual machine without a disk in a known format."""
    names = sort_names(list(tree.root.entries))
    if not any(name.lower().endswith(_DESCRIPTOR_SUFFIXES) for name in names):
        return
    shown_archive, found = printable(archive), format_paths(names)
    if pieces := [name for name in names if _SPLIT_DISK_NAME.fullmatch(name)]:
        disk = _quote(pieces[0].rpartition(".")[0])
        raise SourceError(
            f"{shown_archive} holds the disk of a virtual machine in several pieces: {found}",
            f"unpack and join it, and name the disk: tar -xf {_quote(archive)}; cat {disk}.* >{disk}; "
            f"ltsp image ./{disk}",
        )
    raise SourceError(
        f"{shown_archive} is a virtual machine without a disk: found {found}",
        "export it again with its disks, or name the disk itself: ltsp image ./lab.vmdk",
    )


def require_single_disk(paths: Sequence[str], archive: str) -> str:
    """The only disk. Raises SourceError if there are several."""
    if len(paths) > 1:
        raise SourceError(
            f"{printable(archive)} contains several virtual machine disks: {format_paths(paths)}",
            f"name the system disk: {_quote(f'{archive},,{paths[0]}')}, or {suggest_unpacking(archive, paths[0])}",
        )
    return paths[0]


def suggest_command(directory: str, paths: Sequence[str]) -> str:
    """What to type for the directory of a virtual machine with these disks."""
    disk = f"{directory.rstrip('/')}/{paths[0]}"
    return f"name the disk in it: ltsp image {_quote(disk)}"


def unreadable_error(error: LtspError, archive: str, disk: str) -> LtspError:
    """The error for a disk of an archive that cannot be read."""
    return type(error)(
        f"the disk {printable(disk)} in {printable(archive)}: {_UNNAMED_COPY_PATH.sub('', error.message)}",
        f"{error.hint}; or {suggest_unpacking(archive, disk)}" if error.hint else suggest_unpacking(archive, disk),
    )


def suggest_unpacking(archive: str, disk: str) -> str:
    """What to type to unpack the archive first."""
    return f"unpack it, and name the disk: tar -xf {_quote(archive)} {_quote(disk)}"


def _quote(text: str) -> str:
    return shlex.quote(printable(text))
