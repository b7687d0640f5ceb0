"""The names of images: of those that lie in the base directory, and of a source at a path."""

from __future__ import annotations

import os
import re
import stat

from ltsp.errors import LtspError, UsageError
from ltsp.host.chroot import is_chroot
from ltsp.inspection.rootfs_check import list_entries
from ltsp.settings import image_name
from ltsp.tree.name import decode, encode, printable, sort_names

_SUFFIXES = (
    *(".img", ".iso", ".qcow2", ".raw", ".sfs", ".sqfs", ".squashfs", ".vdi", ".vhd", ".vhdx", ".vmdk"),
    *(".oci", ".tar", ".tbz2", ".tgz", ".txz", ".tzst"),
)
_COMPRESSED = (".bz2", ".gz", ".xz", ".zst")
"""What may follow one of those."""
_MOST_UNNAMED = 3
"""So many images are made without their names or ALL_IMAGES=1: more are rarely what was meant."""


def list_names(base_dir: str, *, all_images: bool = False) -> tuple[list[str], list[str]]:
    """What there is to make images of when no name is given, and warnings: a line for each name that cannot be one.

    Chroots and VM disks; exported images too with `all_images`. Raises UsageError where there are more than three
    without it, and LtspError where there is nothing.
    """
    found = in_base_dir(base_dir)
    if all_images:
        found |= _list_images(f"{base_dir}/images")
    good = sort_names([entry for entry in found if not image_name.fault(entry)])
    bad = sort_names([entry for entry in found if image_name.fault(entry)])
    warnings = [
        f"{printable(base_dir)}/{printable(entry)}: name {image_name.fault(entry)}; passed over: rename it, or give "
        f"its path with --name={image_name.suggest_name(entry)}"
        for entry in bad
    ]
    if not good:
        raise LtspError(
            f"no image is named, and {printable(base_dir)} has no chroot and no VM disk",
            "write ltsp image / for the running system",
        )
    return check_at_most_three(good, all_images=all_images), warnings


def in_base_dir(base_dir: str) -> set[str]:
    """Of chroots and VM disks, also such as cannot be the name of an image."""
    return {entry for entry in list_entries(base_dir) if is_chroot(encode(f"{base_dir}/{entry}"))} | _list_images(
        base_dir
    )


def check_at_most_three(found: list[str], *, all_images: bool) -> list[str]:
    """The names, if they are not so many that they must have been written.

    Raises UsageError.
    """
    if len(found) > _MOST_UNNAMED and not all_images:
        raise UsageError(
            f"no image is named, and there are {len(found)}: {', '.join(found)}", "name them, or set ALL_IMAGES=1"
        )
    return found


def derive_name(path: str) -> str:
    """The image's name for a source at a path: its last part, without what tells the kind of a file.

    `/` is the running system, which is named for the machine. A link's own name counts; `.`, `..` and `a/..` have the
    name of the directory that they lead to.
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
    if suffix.lower() in _COMPRESSED:
        last = stem
        stem, suffix = os.path.splitext(last)
    return stem if suffix.lower() in _SUFFIXES else last


def _list_images(directory: str) -> set[str]:
    return {
        entry.removesuffix(".img")
        for entry in list_entries(directory)
        if entry.endswith(".img") and not entry.startswith(".") and _is_disk(f"{directory}/{entry}")
    }


def _is_disk(path: str) -> bool:
    """Whether it is a file, or the device of one: a logical volume that a virtual machine has for its disk."""
    try:
        mode = os.stat(encode(path)).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)
