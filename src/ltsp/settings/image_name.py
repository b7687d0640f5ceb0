"""The name of an image: a word that is safe as a file name, in a kernel command line and in an iPXE menu."""

from __future__ import annotations

import re
import string
import unicodedata

from ltsp.errors import UsageError
from ltsp.settings import tftp_names

_LONGEST = 64
_FIRST = frozenset(string.ascii_letters + string.digits)
_REST = _FIRST | frozenset("._+-")
_SUFFIXES = (".img", ".ipxe", ".old", ".lock", ".new")
"""Suffixes of files next to the images: `NAME.img.old` would be taken for another image's file."""
_NONE_LEFT = "NAME"
"""The placeholder if no part of a text is valid in a name."""
_CHARACTER_NAMES = {" ": "a space", "\t": "a tab", "\n": "a line break", ",": "a comma", "/": "a slash"}


def fault(name: str) -> str:
    """What is wrong with a name, as in `contains a comma`; empty if nothing is."""
    if not name:
        return "is empty"
    wrong = next((character for character in name if character not in _REST), "")
    if wrong:
        return f"contains {_CHARACTER_NAMES.get(wrong, ascii(wrong))}"
    if name[0] not in _FIRST:
        return f"begins with {name[0]!r}"
    if len(name) > _LONGEST:
        return f"has {len(name)} characters; the limit is {_LONGEST}"
    if name.lower() in tftp_names.RESERVED:  # some TFTP servers ignore case
        return "is the name of a file in TFTP_DIR/ltsp"
    return f"ends with {suffix!r}" if (suffix := _suffix(name)) else ""


def _suffix(name: str) -> str:
    return next((name[-len(each) :] for each in _SUFFIXES if name.lower().endswith(each)), "")


def suggest_name(text: str) -> str:
    """The valid name closest to a text, such as `Lubuntu-24.04` for `Lubuntu 24.04`; NAME if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    words = re.sub("[^A-Za-z0-9._+]+", "-", plain).lstrip("._+-")
    name = words[:_LONGEST].rstrip("._+-")
    while suffix := _suffix(name):
        name = name.removesuffix(suffix)
    return _NONE_LEFT if fault(name) else name


def check_name(name: str) -> str:
    """The name itself.

    Raises UsageError if it is not valid for an image.
    """
    if reason := fault(name):
        suggested = suggest_name(name)
        raise UsageError(
            f"image name {name!a} {reason}",
            "use letters, digits and . _ + -, with a letter or digit first"
            + (f", as in {suggested}" if suggested != _NONE_LEFT else ""),
        )
    return name
