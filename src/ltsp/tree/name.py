"""File names: `str` inside, bytes at the edge, and text that is safe to print.

A name that is not UTF-8 keeps its bytes as lone surrogates (PEP 383). The codec is always UTF-8, never that of
the locale, so that an image does not depend on the machine's language.
"""

from __future__ import annotations

import os
import sys

_NATIVE = sys.getfilesystemencoding().lower() == "utf-8" and sys.getfilesystemencodeerrors() == "surrogateescape"


def encode(name: str) -> bytes:
    """The bytes of a name or path."""
    return name.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> str:
    """The name or path of these bytes; `encode` is the inverse."""
    return raw.decode("utf-8", "surrogateescape")


def from_os(name: str) -> str:
    """A name as returned by `os` functions, in our form."""
    return name if _NATIVE else decode(os.fsencode(name))


def to_os(name: str) -> str | bytes:
    """A name in our form, as accepted by `os` functions."""
    return name if _NATIVE else encode(name)


def byte_sort_key(name: str) -> bytes:
    """The key that sorts names as their bytes sort."""
    return encode(name)


def sort_names(names: list[str]) -> list[str]:
    """Names sorted as their bytes sort.

    Code points sort like their UTF-8 bytes, except the surrogates of names that are not UTF-8.
    """
    if all(map(str.isascii, names)):
        return sorted(names)
    return sorted(names, key=byte_sort_key)


def printable(name: str) -> str:
    """A name for a terminal or a log: control characters, bidirectional marks and broken bytes are escaped."""
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(map(_escape, name))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
