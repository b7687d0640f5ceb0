"""Which packages a tree has, by the databases of dpkg and rpm in it. No program of the tree is run."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from ltsp.errors import FormatError
from ltsp.tree.name import in_order
from ltsp.tree.node import Directory, File
from ltsp.tree.small import read_small
from ltsp.tree.tree import Tree

_MOST = 512 << 20
"""Bytes of the largest database that is read."""
_RPM_PLACES = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")


def packages(tree: Tree) -> Mapping[str, str] | None:
    """Versions by name; the same name of a second architecture has it behind a colon. None where nobody says.

    The older databases of rpm (Berkeley DB, ndb) are not read.
    """
    dpkg = _dpkg(tree)
    rpm = _rpm(tree)
    return dict(sorted({**(rpm or {}), **dpkg}.items())) if dpkg or rpm is not None else None


def _dpkg(tree: Tree) -> dict[str, str]:
    """Of var/lib/dpkg/status, and of status.d, where minimal images have one file a package."""
    texts = [_read(tree, "var/lib/dpkg/status")]
    parts = tree.follow("var/lib/dpkg/status.d")
    if isinstance(parts, Directory):
        texts += [_read(tree, f"var/lib/dpkg/status.d/{name}") for name in in_order(list(parts.entries))]
    found: dict[str, str] = {}
    for text in texts:
        for paragraph in (text or b"").decode("utf-8", "replace").split("\n\n"):
            fields = dict(_fields(paragraph))
            name, version = fields.get("Package"), fields.get("Version")
            if name and version and fields.get("Status", "install ok installed").endswith(" installed"):
                found[f"{name}:{fields.get('Architecture', '')}" if name in found else name] = version
    return found


def _fields(paragraph: str) -> Iterator[tuple[str, str]]:
    """The fields of one line that matter here. deb-control(5)"""
    for line in paragraph.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name in ("Package", "Version", "Status", "Architecture"):
            yield name, value.strip()


def _read(tree: Tree, path: str) -> bytes | None:
    file = tree.follow(path)
    try:
        return read_small(file, path, _MOST) if isinstance(file, File) else None
    except (OSError, FormatError):
        return None  # a list that cannot be read is no list; the image is none the worse


# rpm: a table of header blobs, each an index of 16-byte entries and a store. rpm's docs/manual/hregions.md

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_MOST_TAGS = 1 << 16


def _rpm(tree: Tree) -> dict[str, str] | None:
    for place in _RPM_PLACES:
        database = _read(tree, place)
        if database:
            return _of_sqlite(database)
    return None


def _of_sqlite(database: bytes) -> dict[str, str] | None:
    import sqlite3  # noqa: PLC0415 -- seldom needed, and large

    connection = sqlite3.connect(":memory:")
    try:
        # A database in WAL mode, which a memory database cannot have: say that it is in the other.
        connection.deserialize(database[:18] + b"\1\1" + database[20:])
        found: dict[str, str] = {}
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            header = _header(blob) if isinstance(blob, bytes) else {}
            name, version, release = (header.get(tag) for tag in (_NAME, _VERSION, _RELEASE))
            if name and version and name != "gpg-pubkey":
                epoch = f"{header[_EPOCH]}:" if _EPOCH in header else ""
                key = f"{name}:{header.get(_ARCH, '')}" if name in found else name
                found[key] = f"{epoch}{version}-{release}"
    except sqlite3.Error:
        return None
    else:
        return found
    finally:
        connection.close()


def _header(blob: bytes) -> dict[int, str]:
    """The tags that matter here, as text."""
    if len(blob) < 8:
        return {}
    count, _size = struct.unpack_from(">II", blob)
    store = 8 + 16 * count
    if count > _MOST_TAGS or store > len(blob):
        return {}
    found: dict[int, str] = {}
    for index in range(count):
        tag, kind, offset, _count = struct.unpack_from(">IIiI", blob, 8 + 16 * index)
        at = store + offset
        if tag not in (_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH) or not store <= at < len(blob):
            continue
        if kind == 6:  # a string
            found[tag] = blob[at : blob.find(b"\0", at)].decode("utf-8", "replace")
        elif kind == 4 and at + 4 <= len(blob):  # a 32-bit number
            found[tag] = str(int.from_bytes(blob[at : at + 4], "big"))
    return found
