"""Parse the records of a pax extended header, `LENGTH KEYWORD=VALUE`.

POSIX.1-2017 pax(1), "pax Extended Header". Attributes are records `SCHILY.xattr.NAME` with raw bytes (star, GNU
tar, container tools); libarchive also writes them in base64, and older versions only that.

Access control lists as text (`SCHILY.acl.*`, which `tar --acls` writes) are ignored: they name users of the machine
that wrote them, and squashfs cannot store them. Those stored as attributes are kept like the others.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from ltsp.errors import FormatError
from ltsp.tree.name import byte_sort_key, decode

_STAR_XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
_SELINUX = b"RHT.security.selinux"
_TIME = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?")
_MAX_LENGTH_DIGITS = 20
"""Digits of the length of a record."""
_MAX_XATTR_SIZE = 65536
"""Bytes of a value, and 255 of a name: XATTR_SIZE_MAX and XATTR_NAME_MAX of linux/limits.h."""

PaxRecord = tuple[bytes, bytes]
Xattrs = tuple[tuple[str, bytes], ...]


def parse_records(data: bytes) -> list[PaxRecord]:
    """Keywords and values in order; those of sparse files may be repeated.

    Raises FormatError.
    """
    found = []
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + _MAX_LENGTH_DIGITS + 1)
        length = parse_decimal(data[at:space]) if space > 0 else None
        end = at + (length or 0)
        equals = data.find(b"=", space, end)
        if length is None or not space < equals < end <= len(data) or data[end - 1] != ord("\n"):
            raise FormatError("is damaged: an extended header has an invalid record")
        found.append((data[space + 1 : equals], data[equals + 1 : end - 1]))
        at = end
    return found


def parse_decimal(digits: bytes) -> int | None:
    """A number of 63 bits; None for anything else. (`int` also accepts spaces, signs and underscores.)"""
    if not 0 < len(digits) <= _MAX_LENGTH_DIGITS or not digits.isdigit():
        return None
    value = int(digits)
    return value if value < 1 << 63 else None


def get_number(values: Mapping[bytes, bytes], keyword: bytes, default: int) -> int:
    """The number under a keyword.

    Raises FormatError.
    """
    if keyword not in values:
        return default
    value = parse_decimal(values[keyword])
    if value is None:
        raise FormatError(f"is damaged: an extended header has an invalid number for {keyword.decode('ascii')}")
    return value


def get_mtime(values: Mapping[bytes, bytes], default: int) -> int:
    """The time, rounded down; the fraction may have more digits than a floating point number.

    Raises FormatError.
    """
    if b"mtime" not in values:
        return default
    match = _TIME.fullmatch(values[b"mtime"])
    if match is None:
        raise FormatError("is damaged: an extended header has an invalid mtime")
    sign, digits, fraction = match.groups()
    if not sign:
        return int(digits)
    return -int(digits) - bool((fraction or b"").strip(b"0"))


def get_xattrs(values: Mapping[bytes, bytes]) -> Xattrs:
    """The attributes, in the order of the names' bytes.

    Raises FormatError.
    """
    found: dict[bytes, bytes] = {}
    encoded: dict[bytes, bytes] = {}
    for keyword, value in values.items():
        if keyword.startswith(_STAR_XATTR):
            # GNU tar escapes `=`, which would end the keyword, and `%`, which starts an escape.
            name = keyword.removeprefix(_STAR_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%")
            found[name] = value
        elif keyword.startswith(_LIBARCHIVE_XATTR):
            try:
                decoded = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
            except binascii.Error:
                raise FormatError("is damaged: an extended header has an attribute with invalid base64") from None
            encoded[keyword.removeprefix(_LIBARCHIVE_XATTR)] = decoded
        elif keyword == _SELINUX:
            found[b"security.selinux"] = value.rstrip(b"\0") + b"\0"  # the kernel stores it with a NUL
    for name, value in encoded.items():
        found.pop(name, None)  # the same attribute: libarchive writes it in both forms
        found[unquote_to_bytes(name)] = value
    for name, value in found.items():
        if not name or len(name) > 255 or b"\0" in name or len(value) > _MAX_XATTR_SIZE:
            raise FormatError("is damaged: an extended header has an invalid attribute")
    if not found:
        return ()
    return tuple(
        sorted(((decode(name), value) for name, value in found.items()), key=lambda pair: byte_sort_key(pair[0]))
    )


def merge_records(found: Sequence[PaxRecord], global_records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The records of a member: its own, the last of each keyword, over those of global headers.

    An empty value removes a keyword, but an attribute may be empty.
    """
    values = dict(global_records)
    for keyword, value in found:
        if value or keyword.startswith((_STAR_XATTR, _LIBARCHIVE_XATTR)):
            values[keyword] = value
        else:
            values.pop(keyword, None)
    return values
