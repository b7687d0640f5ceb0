"""Which packages a tree has, by the databases of dpkg and rpm in it. No program of the tree is run."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping

from ltsp.errors import FormatError
from ltsp.tree.name import decode, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

_MOST = 512 << 20
"""Bytes of the largest database that is read."""
_RPM_PLACES = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")


def list_packages(tree: Tree) -> Mapping[str, str] | None:
    """Versions by name; the same name of a second architecture has it behind a colon. None where nobody says.

    The older databases of rpm (Berkeley DB, ndb) are not read.
    """
    dpkg = _read_dpkg(tree)
    rpm = _read_rpm(tree)
    return dict(sorted({**(rpm or {}), **dpkg}.items())) if dpkg or rpm is not None else None


def _read_dpkg(tree: Tree) -> dict[str, str]:
    """Of var/lib/dpkg/status, and of status.d, where minimal images have one file a package."""
    texts = [_read_file(tree, "var/lib/dpkg/status")]
    parts = tree.follow("var/lib/dpkg/status.d")
    if isinstance(parts, Directory):
        texts += [_read_file(tree, f"var/lib/dpkg/status.d/{name}") for name in sort_names(list(parts.entries))]
    found: dict[str, str] = {}
    for text in texts:
        for paragraph in (text or b"").decode("utf-8", "replace").split("\n\n"):
            fields = dict(_parse_fields(paragraph))
            name, version = fields.get("Package"), fields.get("Version")
            if name and version and fields.get("Status", "install ok installed").endswith(" installed"):
                found[f"{name}:{fields.get('Architecture', '')}" if name in found else name] = version
    return found


def _parse_fields(paragraph: str) -> Iterator[tuple[str, str]]:
    """The fields of one line that matter here. deb-control(5)"""
    for line in paragraph.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name in ("Package", "Version", "Status", "Architecture"):
            yield name, value.strip()


def _read_file(tree: Tree, path: str) -> bytes | None:
    file = tree.follow(path)
    try:
        return read_small_file(file, path, _MOST) if isinstance(file, File) else None
    except (OSError, FormatError):
        return None  # a list that cannot be read is no list; the image is none the worse


# rpm: a table of header blobs, each an index of 16-byte entries and a store. rpm's docs/manual/hregions.md

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1116, 1117, 1118
_MOST_TAGS = 1 << 16


def _read_rpm(tree: Tree) -> dict[str, str] | None:
    database = _rpm_database(tree)
    if database is None:
        return None
    found: dict[str, str] = {}
    try:
        for blob in _blobs(database):
            header = _parse_rpm_header(blob)
            name, version, release = (header.get(tag) for tag in (_NAME, _VERSION, _RELEASE))
            if name and version and name != "gpg-pubkey":
                epoch = f"{header[_EPOCH]}:" if _EPOCH in header else ""
                key = f"{name}:{header.get(_ARCH, '')}" if name in found else name
                found[key] = f"{epoch}{version}-{release}"
    except FormatError:
        return None
    return found


def rpm_files(tree: Tree) -> Iterator[str]:
    """The absolute paths of what rpm installed; no more where its database is damaged."""
    database = _rpm_database(tree)
    try:
        for blob in _blobs(database) if database is not None else ():
            yield from _files(blob)
    except FormatError:
        return  # a list that cannot be read is no list


def _rpm_database(tree: Tree) -> bytes | None:
    return next(filter(None, (_read_file(tree, place) for place in _RPM_PLACES)), None)


def _blobs(database: bytes) -> Iterator[bytes]:
    """The header of each package. Raises FormatError where the database is damaged."""
    import sqlite3  # noqa: PLC0415 -- seldom needed, and large

    connection = sqlite3.connect(":memory:")
    try:
        # A database in WAL mode, which a memory database cannot have: say that it is in the other.
        connection.deserialize(database[:18] + b"\1\1" + database[20:])
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if isinstance(blob, bytes):
                yield blob
    except sqlite3.Error as error:
        raise FormatError(f"the database of rpm is damaged: {error}") from error
    finally:
        connection.close()


def _index(blob: bytes, wanted: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
    """Of the tags that matter: which, its type, where its values begin, and how many there are said to be."""
    if len(blob) < 8:
        return
    count, _size = struct.unpack_from(">II", blob)
    store = 8 + 16 * count
    if count > _MOST_TAGS or store > len(blob):
        return
    for index in range(count):
        tag, kind, offset, values = struct.unpack_from(">IIiI", blob, 8 + 16 * index)
        if tag in wanted and store <= store + offset < len(blob):
            yield tag, kind, store + offset, values


def _files(blob: bytes) -> Iterator[str]:
    """A package's files: names, each with the number of its directory; "File tags" in rpm's docs/manual/tags.md."""
    numbers: tuple[int, ...] = ()
    texts: dict[int, list[str]] = {}
    for tag, kind, at, count in _index(blob, (_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES)):
        if kind == 4 and 0 < count <= (len(blob) - at) // 4:  # 32-bit numbers
            numbers = struct.unpack_from(f">{count}I", blob, at)
        elif kind == 8 and count <= len(blob) - at:  # strings
            texts[tag] = [decode(text) for text in blob[at:].split(b"\0", count)[:count]]
    directories = texts.get(_DIR_NAMES, [])
    for number, name in zip(numbers, texts.get(_BASE_NAMES, []), strict=False):
        if number < len(directories):
            yield directories[number] + name


def _parse_rpm_header(blob: bytes) -> dict[int, str]:
    """What tells a package, as text."""
    found: dict[int, str] = {}
    for tag, kind, at, _count in _index(blob, (_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH)):
        if kind == 6:  # a string
            found[tag] = blob[at : blob.find(b"\0", at)].decode("utf-8", "replace")
        elif kind == 4 and at + 4 <= len(blob):  # a 32-bit number
            found[tag] = str(int.from_bytes(blob[at : at + 4], "big"))
    return found
