"""Lists the packages of a tree from its dpkg and rpm databases, and finds files that no package tool installed.

Files of packages are public, so they contain no secrets. The directories of some tools are identified by a file in them
(`lists/package.marks`); other files are found in the file lists of dpkg, pacman and rpm. No program of the tree is run.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain

from ltsp.errors import FormatError
from ltsp.transform.rules import read_built_in
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.name import decode, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MAX_DATABASE_SIZE = 512 << 20
"""Limit on the size of a database in bytes."""
_RPM_DATABASE_PATHS = ("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite")


def list_packages(tree: Tree) -> Mapping[str, str] | None:
    """Versions by name; for a second architecture, the name has a suffix `:ARCH`. None if there is no database.

    The older databases of rpm (Berkeley DB, ndb) are not read.
    """
    dpkg = _read_dpkg(tree)
    rpm = _read_rpm(tree)
    return dict(sorted({**(rpm or {}), **dpkg}.items())) if dpkg or rpm is not None else None


def _read_dpkg(tree: Tree) -> dict[str, str]:
    """Packages in var/lib/dpkg/status, and in status.d, where minimal images have a file for each package."""
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
    """The single-line fields that are needed here. deb-control(5)"""
    for line in paragraph.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name in ("Package", "Version", "Status", "Architecture"):
            yield name, value.strip()


def _read_file(tree: Tree, path: str) -> bytes | None:
    file = tree.follow(path)
    try:
        return read_small_file(file, path, _MAX_DATABASE_SIZE) if isinstance(file, File) else None
    except (OSError, FormatError):
        return None  # an unreadable list is ignored; it does not affect the image


# rpm: a table of header blobs, each an index of 16-byte entries and a store. rpm's docs/manual/hregions.md

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1116, 1117, 1118
_MAX_TAGS = 1 << 16


def _read_rpm(tree: Tree) -> dict[str, str] | None:
    database = _read_rpm_database(tree)
    if database is None:
        return None
    found: dict[str, str] = {}
    try:
        for blob in _read_headers(database):
            header = _parse_rpm_header(blob)
            name, version, release = (header.get(tag) for tag in (_NAME, _VERSION, _RELEASE))
            if name and version and name != "gpg-pubkey":
                epoch = f"{header[_EPOCH]}:" if _EPOCH in header else ""
                key = f"{name}:{header.get(_ARCH, '')}" if name in found else name
                found[key] = f"{epoch}{version}-{release}"
    except FormatError:
        return None
    return found


def list_rpm_files(tree: Tree) -> Iterator[str]:
    """The absolute paths of files installed by rpm, up to the first damaged record."""
    database = _read_rpm_database(tree)
    try:
        for blob in _read_headers(database) if database is not None else ():
            yield from _parse_files(blob)
    except FormatError:
        return  # an unreadable list is ignored


def _read_rpm_database(tree: Tree) -> bytes | None:
    return next(filter(None, (_read_file(tree, path) for path in _RPM_DATABASE_PATHS)), None)


def _read_headers(database: bytes) -> Iterator[bytes]:
    """The header of each package. Raises FormatError if the database is damaged."""
    import sqlite3  # noqa: PLC0415 -- seldom needed, and large

    connection = sqlite3.connect(":memory:")
    try:
        # An in-memory database cannot be in WAL mode: change the mode in its header.
        connection.deserialize(database[:18] + b"\1\1" + database[20:])
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if isinstance(blob, bytes):
                yield blob
    except sqlite3.Error as error:
        raise FormatError(f"the rpm database is damaged: {error}") from error
    finally:
        connection.close()


def _read_index(blob: bytes, wanted: Collection[int]) -> Iterator[tuple[int, int, int, int]]:
    """The needed entries of the index: tag, type, offset of the values and their stated count."""
    if len(blob) < 8:
        return
    count, _size = struct.unpack_from(">II", blob)
    store = 8 + 16 * count
    if count > _MAX_TAGS or store > len(blob):
        return
    for index in range(count):
        tag, kind, offset, value_count = struct.unpack_from(">IIiI", blob, 8 + 16 * index)
        if tag in wanted and store <= store + offset < len(blob):
            yield tag, kind, store + offset, value_count


def _parse_files(blob: bytes) -> Iterator[str]:
    """A package's file names, each with its directory index; "File tags" in rpm's docs/manual/tags.md."""
    numbers: tuple[int, ...] = ()
    texts: dict[int, list[str]] = {}
    for tag, kind, at, count in _read_index(blob, (_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES)):
        if kind == 4 and 0 < count <= (len(blob) - at) // 4:  # 32-bit numbers
            numbers = struct.unpack_from(f">{count}I", blob, at)
        elif kind == 8 and count <= len(blob) - at:  # strings
            texts[tag] = [decode(text) for text in blob[at:].split(b"\0", count)[:count]]
    directories = texts.get(_DIR_NAMES, [])
    for number, name in zip(numbers, texts.get(_BASE_NAMES, []), strict=False):
        if number < len(directories):
            yield directories[number] + name


def _parse_rpm_header(blob: bytes) -> dict[int, str]:
    """The tags that identify a package, as text."""
    found: dict[int, str] = {}
    for tag, kind, at, _count in _read_index(blob, (_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH)):
        if kind == 6:  # a string
            found[tag] = blob[at : blob.find(b"\0", at)].decode("utf-8", "replace")
        elif kind == 4 and at + 4 <= len(blob):  # a 32-bit number
            found[tag] = str(int.from_bytes(blob[at : at + 4], "big"))
    return found


_PACKAGE_LISTS = ("var/lib/dpkg/info/*.list", "var/lib/pacman/local/*/files")
"""File lists of packages, one path a line. dpkg-query(1), --listfiles; pacman's lib/libalpm/be_local.c"""
_LARGEST_LIST = 64 << 20
"""Limit on the size of a list in bytes."""


def find_unpackaged(tree: Tree, paths: Iterable[str]) -> Mapping[str, list[str]]:
    """For each of these paths, the files at or below it that no package tool installed, sorted by path."""
    found = {path: [*_find_unmarked(tree, path)] for path in paths}
    wanted = {file for files in found.values() for file in files}
    listed = _find_listed(tree, wanted) if wanted else frozenset()
    return {path: [file for file in files if file not in listed] for path, files in found.items()}


def _find_unmarked(tree: Tree, path: str) -> Iterator[str]:
    """The files at or below a path, without those in the directories of package tools."""
    at = ""
    for name in path.split("/"):
        above = tree.get(at)
        if not isinstance(above, Directory) or _matches_any(name, _find_kept(above)):
            return
        at = f"{at}/{name}".lstrip("/")
    pending = [(path, tree.get(path))]
    while pending:
        at, node = pending.pop()
        if isinstance(node, File):
            yield at
        elif isinstance(node, Directory):
            kept = _find_kept(node)
            names = [name for name in sort_names(list(node.entries)) if not _matches_any(name, kept)]
            pending += [(f"{at}/{name}", node.entries[name]) for name in reversed(names)]


def _matches_any(name: str, kept: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in kept)


def _find_kept(directory: Directory) -> list[str]:
    """Patterns of the entries that belong to a package tool."""
    return [each for mark, names in _read_marks() if any(_find_matching("", directory, mark)) for each in names]


def _find_matching(prefix: str, directory: Directory, components: tuple[str, ...]) -> Iterator[tuple[str, File]]:
    """The files that a pattern matches."""
    first, *rest = components
    names = sort_names(list(directory.entries)) if "*" in first else [first]
    for name in names:
        node = directory.entries.get(name)
        if node is None or not fnmatchcase(name, first):
            continue
        if isinstance(node, Directory) and rest:
            yield from _find_matching(f"{prefix}{name}/", node, tuple(rest))
        elif isinstance(node, File) and not rest:
            yield prefix + name, node


@cache
def _read_marks() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """The components of each mark, and the tool's entries next to it."""
    rows = (line.text.split() for line in read_built_in("package.marks"))
    return tuple((tuple(mark.split("/")), tuple(names)) for mark, *names in rows)


def _find_listed(tree: Tree, wanted: set[str]) -> frozenset[str]:
    """The paths that packages list, with links resolved."""
    names = {path.rpartition("/")[2] for path in wanted}
    listed = (line for line in chain(_read_lists(tree), list_rpm_files(tree)) if line.rpartition("/")[2] in names)
    return frozenset(filter(None, map(tree.resolve, listed))) & wanted


def _read_lists(tree: Tree) -> Iterator[str]:
    for pattern in _PACKAGE_LISTS:
        for path, file in _find_matching("", tree.root, tuple(pattern.split("/"))):
            yield from decode(_read_list(path, file)).split("\n")


def _read_list(path: str, file: File) -> bytes:
    try:
        return read_small_file(file, path, _LARGEST_LIST, Faults(skip_unreadable=True))
    except FormatError:
        return b""  # an unreadable list is ignored, which only causes more warnings
