"""Names: of images, of the files that images share, and the known name closest to a wrong one.

The name of an image is a word that is safe as a file name, in a kernel command line and in an iPXE menu.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ltsp.errors import UsageError

# Files in TFTP_DIR/ltsp

MENU = "ltsp.ipxe"
"""The iPXE menu."""
ADD_ON = "ltsp.img"
"""The site's configuration."""

IPXE_BIOS = "undionly.kpxe"
IPXE_UEFI = "snponly.efi"
IPXE_ARM = "snponly-arm64.efi"
MEMTEST_BIOS = "memtest.0"
MEMTEST_UEFI = "memtest.efi"

_SHARED_FILES = frozenset({MENU, ADD_ON, IPXE_BIOS, IPXE_UEFI, IPXE_ARM, MEMTEST_BIOS, MEMTEST_UEFI})


_MAX_LENGTH = 64
_MARKS = frozenset("._+-")
"""Besides letters and digits, but not at the beginning."""
_RESERVED_SUFFIXES = (".img", ".ipxe", ".old", ".lock", ".new")
"""Suffixes of files next to the images: `NAME.img.old` would be taken for another image's file."""
_PLACEHOLDER = "NAME"
"""The placeholder if no part of a text is valid in a name."""
_CHARACTER_NAMES = {" ": "a space", "\t": "a tab", "\n": "a line break", ",": "a comma", "/": "a slash"}


def find_fault(name: str) -> str:
    """What is wrong with a name, as in `must not contain a comma`; empty if nothing is."""
    if not name:
        return "must not be empty"
    wrong = next((character for character in name if not _is_plain(character) and character not in _MARKS), "")
    if wrong:
        return f"must not contain {_CHARACTER_NAMES.get(wrong, ascii(wrong))}"
    if not _is_plain(name[0]):
        return f"must not begin with {name[0]!r}"
    if len(name) > _MAX_LENGTH:
        return f"has {len(name)} characters; the limit is {_MAX_LENGTH}"
    if name.lower() in _SHARED_FILES:  # some TFTP servers ignore case
        return "is reserved for a file in TFTP_DIR/ltsp"
    return f"must not end with {suffix}" if (suffix := _find_reserved_suffix(name)) else ""


def _is_plain(character: str) -> bool:
    """Whether it is a letter or digit of ASCII."""
    return character.isascii() and character.isalnum()


def _find_reserved_suffix(name: str) -> str:
    return next((name[-len(each) :] for each in _RESERVED_SUFFIXES if name.lower().endswith(each)), "")


def suggest_name(text: str) -> str:
    """The valid name closest to a text, such as `Lubuntu-24.04` for `Lubuntu 24.04`; NAME if nothing is left."""
    import unicodedata  # noqa: PLC0415 -- rarely needed

    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    words = re.sub("[^A-Za-z0-9._+]+", "-", plain).lstrip("._+-")
    name = words[:_MAX_LENGTH].rstrip("._+-")
    while suffix := _find_reserved_suffix(name):
        name = name.removesuffix(suffix)
    return _PLACEHOLDER if find_fault(name) else name


def check_name(name: str) -> str:
    """The name itself.

    Raises UsageError if it is not valid for an image.
    """
    if reason := find_fault(name):
        suggested = suggest_name(name)
        raise UsageError(
            f"image name {name!a} {reason}",
            "use letters, digits and . _ + -, with a letter or digit first"
            + (f", as in {suggested}" if suggested != _PLACEHOLDER else ""),
        )
    return name


def closest_name(name: str, known: Iterable[str], alike: float = 0.75) -> str:
    """The known name closest to it; empty if none is. `alike`: the least similarity, from 0 to 1."""
    import difflib  # noqa: PLC0415 -- rarely needed

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=alike)
    return near[0] if near else ""
