"""Where a source lies that is given by a name or a path, and how that is written down to be found again."""

from __future__ import annotations

import os
import re
import shlex

from ltsp.errors import LtspError
from ltsp.host.chroot import is_chroot
from ltsp.source.image_reference import ImageReference
from ltsp.tree.name import decode, encode, printable

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_DISK = re.compile(r",disk=([/.][^,]*)")
"""Another disk by its path; with any other name it lies beside the first one, wherever that is."""


def is_path(text: str) -> bool:
    """Whether it is a path, which begins with `/` or `.`; anything else is a name below the base directory."""
    return text.startswith(("/", "."))


def locate(text: str, base_dir: str) -> tuple[str, str]:
    """The path of the chroot, disk or image that is meant, and a note on the choice where there was one.

    A name is looked up in the base directory alone: in the working directory, anybody's could become everyone's image.

    Raises LtspError where there is none.
    """
    if _ADDRESS.match(text):
        raise LtspError(
            f"{printable(text)} is not on this machine",
            "fetch it by curl, scp or rsync, and name the file; of addresses, only docker:// is known",
        )
    if is_path(text):
        if os.path.lexists(encode(text)):
            return text, ""
        raise LtspError(f"there is no {printable(text)}", "name a chroot, a VM disk, an image, or their path")
    chroot, disk = f"{base_dir}/{text}", f"{base_dir}/{text}.img"
    exported = f"{base_dir}/images/{text}.img"
    if is_chroot(encode(chroot)):
        both = os.path.lexists(encode(disk))
        return chroot, f"took the chroot {printable(chroot)}, not the VM disk {printable(disk)}" if both else ""
    for path in (disk, exported, chroot):
        if os.path.lexists(encode(path)):
            return path, ""
    looked_for = f"{printable(chroot)}, {printable(disk)} and {printable(exported)}"
    raise LtspError(f'no source "{printable(text)}": looked for {looked_for}', _suggest_remedy(text, chroot))


def suggest_local_path(text: str) -> str:
    """How to type what has this name in the working directory; empty where nothing has."""
    return shlex.quote(f"./{printable(text)}") if text and os.path.lexists(encode(text)) else ""


def _suggest_remedy(text: str, chroot: str) -> str:
    if typed := suggest_local_path(text):
        return f"for the one in this directory, type {typed}"
    return f"create a system in {printable(chroot)}, or give a path, which begins with / or ."


def make_source_absolute(argument: str, base_dir: str) -> str:
    """An argument of the command line in a form that means the same from any directory, and names one place only."""
    first, comma, rest = argument.partition(",,")
    image, option, options = first.partition(",")
    reference = ImageReference.parse(image)
    image = _locate_absolute(image, base_dir) if reference is None else reference.make_absolute()
    first = _DISK.sub(lambda match: f",disk={make_path_absolute(match[1])}", image + option + options)
    return first + comma + rest


def _locate_absolute(image: str, base_dir: str) -> str:
    try:
        return make_path_absolute(locate(image, base_dir)[0])
    except LtspError:  # what was recorded may be gone
        return make_path_absolute(image) if is_path(image) else image


def make_path_absolute(path: str) -> str:
    """The path from `/` on. A link that it ends with stays; with `..` in it, links before that are followed."""
    if ".." not in path.split("/"):
        return os.path.abspath(path)
    parent, _, last = path.rstrip("/").rpartition("/")
    if last in ("", ".", ".."):
        return decode(os.path.realpath(encode(path)))
    return os.path.join(decode(os.path.realpath(encode(parent or "/"))), last)
