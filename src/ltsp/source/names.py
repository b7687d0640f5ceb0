"""Image names: those of the sources in the base directory, and the one that a path implies."""

from __future__ import annotations

import os
import re
import stat

from ltsp.errors import LtspError, UsageError
from ltsp.host.root import is_chroot
from ltsp.settings import naming
from ltsp.tree.name import decode, encode, printable, sort_names

_SOURCE_SUFFIXES = (
    *(".img", ".iso", ".qcow2", ".raw", ".sfs", ".sqfs", ".squashfs", ".vdi", ".vhd", ".vhdx", ".vmdk"),
    *(".oci", ".tar", ".tbz2", ".tgz", ".txz", ".tzst"),
)
_COMPRESSION_SUFFIXES = (".bz2", ".gz", ".xz", ".zst")
"""Suffixes that may follow one of those."""
_MAX_UNNAMED_IMAGES = 3
"""The most images that are built without being named and without ALL_IMAGES=1: more is rarely intended."""


def list_source_names(base_dir: str, *, all_images: bool = False) -> tuple[list[str], list[str]]:
    """The sources to build when no name is given, and a warning for each invalid name.

    These are chroots and VM disks, and with `all_images` published images too. Raises UsageError if there are more
    than three without it, and LtspError if there are none.
    """
    found = list_base_dir_names(base_dir)
    if all_images:
        found |= _list_images(f"{base_dir}/images")
    good = sort_names([entry for entry in found if not naming.find_fault(entry)])
    bad = sort_names([entry for entry in found if naming.find_fault(entry)])
    warnings = [
        f"{printable(base_dir)}/{printable(entry)}: name {naming.find_fault(entry)}; skipped: rename it, or give "
        f"its path with --name={naming.suggest_name(entry)}"
        for entry in bad
    ]
    if not good:
        raise LtspError(
            f"no image given, and {printable(base_dir)} contains no chroot or VM disk",
            "for the running system, type ltsp image /",
        )
    return check_image_count(good, all_images=all_images), warnings


def list_base_dir_names(base_dir: str) -> set[str]:
    """The names of chroots and VM disks, including invalid image names."""
    return {entry for entry in list_directory(base_dir) if is_chroot(encode(f"{base_dir}/{entry}"))} | _list_images(
        base_dir
    )


def check_image_count(found: list[str], *, all_images: bool) -> list[str]:
    """The names, unless there are too many to build without being named.

    Raises UsageError.
    """
    if len(found) > _MAX_UNNAMED_IMAGES and not all_images:
        raise UsageError(
            f"no image given, and there are {len(found)}: {', '.join(found)}", "name them, or set ALL_IMAGES=1"
        )
    return found


def derive_name(path: str) -> str:
    """The image's name for a source at a path: its last part, without file type suffixes.

    `/` is the running system, named after the machine's architecture. For a link, its own name counts; `.`, `..` and
    `a/..` take the name of the directory that they lead to.
    """
    last = path.rstrip("/").rpartition("/")[2]
    if last in ("", ".", ".."):
        last = os.path.basename(decode(os.path.realpath(encode(path))))
    if not last:
        machine = os.uname().machine
        return "x86_32" if re.fullmatch(r"i[3-6]86|x86", machine) else machine
    if os.path.isdir(encode(path)):
        return last
    stem, suffix = os.path.splitext(last)
    if suffix.lower() in _COMPRESSION_SUFFIXES:
        last = stem
        stem, suffix = os.path.splitext(last)
    return stem if suffix.lower() in _SOURCE_SUFFIXES else last


def _list_images(directory: str) -> set[str]:
    return {
        entry.removesuffix(".img")
        for entry in list_directory(directory)
        if entry.endswith(".img") and not entry.startswith(".") and _is_disk(f"{directory}/{entry}")
    }


def _is_disk(path: str) -> bool:
    """Whether it is a file or a block device, such as a logical volume used as a virtual machine's disk."""
    try:
        mode = os.stat(encode(path)).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def list_directory(directory: str) -> list[str]:
    """The names in a directory; none if it cannot be read."""
    try:
        return [decode(name) for name in os.listdir(encode(directory))]
    except OSError:
        return []
