"""Locates a source by name, path or reference, and records it in a form that finds it again.

A reference is that of an archive or container image, whose kind cannot be detected from its content alone:
`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]` and `docker://REFERENCE`, as in
containers-transports(5), and `-`.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Final

from ltsp.errors import LtspError
from ltsp.host.root import is_chroot
from ltsp.settings.naming import closest_name
from ltsp.source.names import list_base_dir_names
from ltsp.tree.name import decode, encode, printable

STANDARD_INPUT: Final = "-"
REGISTRY_PREFIX: Final = "docker://"
LAYOUT_PREFIX: Final = "oci:"
_ARCHIVE_PREFIXES: Final = ("oci-archive:", "docker-archive:")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A parsed command line argument."""

    prefix: str
    """With its colon; empty for standard input."""
    path: str
    """A file or directory of the host, or the reference of an image in a registry."""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference | None:
        """None if the text is an ordinary name or path.

        A colon separates the path from the tag, unless a file exists whose name contains it.
        """
        if text == STANDARD_INPUT:
            return cls("", text)
        if text.startswith(REGISTRY_PREFIX):
            return cls(REGISTRY_PREFIX, text.removeprefix(REGISTRY_PREFIX))
        prefix = next((prefix for prefix in (LAYOUT_PREFIX, *_ARCHIVE_PREFIXES) if text.startswith(prefix)), "")
        if not prefix:
            return None
        rest = text.removeprefix(prefix)
        cuts = [len(rest), *(at for at, character in enumerate(rest) if character == ":")]
        cut = next((at for at in cuts if os.path.lexists(encode(rest[:at]))), min(cuts))
        return cls(prefix, rest[:cut], rest[cut + 1 :])

    @property
    def name_path(self) -> str:
        """The path whose last part names the image; empty if there is none."""
        if self.path == STANDARD_INPUT:
            return ""
        if self.prefix != REGISTRY_PREFIX:
            return self.path
        last = self.path.rpartition("/")[2].partition("@")[0]
        return last.partition(":")[0]

    def make_absolute(self) -> str:
        """The reference in a form that does not depend on the working directory."""
        path = self.path if self.prefix in ("", REGISTRY_PREFIX) else os.path.abspath(self.path)
        return f"{self.prefix}{path}{':' if self.tag else ''}{self.tag}"


_URL_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_EXTRA_DISK_OPTION = re.compile(r",disk=([/.][^,]*)")
"""Another disk, given by path; a plain name would be relative to the first disk instead."""


def is_path(text: str) -> bool:
    """Whether it is a path, which begins with `/` or `.`; anything else is a name below the base directory."""
    return text.startswith(("/", "."))


def locate_source(text: str, base_dir: str) -> tuple[str, str]:
    """The path of the chroot, disk or image, and a note if there was a choice.

    A name is looked up in the base directory only: otherwise a file in the working directory, which others may
    control, could become the image of all clients.

    Raises LtspError if nothing is found.
    """
    if _URL_SCHEME.match(text):
        raise LtspError(
            f"{printable(text)} is not on this machine",
            "download it with curl, scp or rsync, and name the file; docker:// is the only URL supported",
        )
    if is_path(text):
        if os.path.lexists(encode(text)):
            return text, ""
        raise LtspError(
            f"{printable(text)} not found",
            f"check the path; names without a leading / or . are looked up in {printable(base_dir)}",
        )
    chroot, disk = f"{base_dir}/{text}", f"{base_dir}/{text}.img"
    published_image = f"{base_dir}/images/{text}.img"
    if is_chroot(encode(chroot)):
        both = os.path.lexists(encode(disk))
        return chroot, f"using the chroot {printable(chroot)}, not the VM disk {printable(disk)}" if both else ""
    for path in (disk, published_image, chroot):
        if os.path.lexists(encode(path)):
            return path, ""
    looked_for = f"{printable(chroot)}, {printable(disk)} and {printable(published_image)}"
    raise LtspError(f'no source "{printable(text)}": looked for {looked_for}', _suggest_remedy(text, base_dir))


def suggest_local_path(text: str) -> str:
    """What to type for a file of this name in the working directory; empty if there is none."""
    return shlex.quote(f"./{printable(text)}") if text and os.path.lexists(encode(text)) else ""


def _suggest_remedy(text: str, base_dir: str) -> str:
    if suggestion := suggest_local_path(text):
        return f"to use the one in the current directory, type {suggestion}"
    if near := closest_name(text, list_base_dir_names(base_dir)):
        return f"did you mean {printable(near)}?"
    return f"create a system in {printable(base_dir)}/{printable(text)}, or give a path (starting with / or .)"


def make_source_absolute(argument: str, base_dir: str) -> str:
    """A command line argument in a form that does not depend on the working directory and is unambiguous."""
    first, comma, rest = argument.partition(",,")
    image, option, options = first.partition(",")
    reference = ImageReference.parse(image)
    image = _locate_absolute(image, base_dir) if reference is None else reference.make_absolute()
    first = _EXTRA_DISK_OPTION.sub(lambda match: f",disk={make_path_absolute(match[1])}", image + option + options)
    return first + comma + rest


def _locate_absolute(image: str, base_dir: str) -> str:
    try:
        return make_path_absolute(locate_source(image, base_dir)[0])
    except LtspError:  # a recorded source may no longer exist
        return make_path_absolute(image) if is_path(image) else image


def make_path_absolute(path: str) -> str:
    """The absolute path. A final link is kept; if the path contains `..`, links before it are followed."""
    if ".." not in path.split("/"):
        return os.path.abspath(path)
    parent, _, last = path.rstrip("/").rpartition("/")
    if last in ("", ".", ".."):
        return decode(os.path.realpath(encode(path)))
    return os.path.join(decode(os.path.realpath(encode(parent or "/"))), last)
