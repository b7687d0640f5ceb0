"""Finds paths in settings files of a system: swap files, keys and passwords, and data directories of tools.

Each parser takes the text of a file and returns the absolute paths in it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from html import unescape

from ltsp.transform.accounts import IdRanges
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.name import decode
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MOST = 1 << 20
"""Limit on the size of a settings file in bytes."""


class PlaceKind(Enum):
    """The kind of thing that a setting refers to; anything else at the path is not left out."""

    FILE = "file"
    DIRECTORY = "directory"
    DOUBTFUL = "directory that clients may need"
    """It stays, with a warning."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A bind mount of a system; both paths are relative to the root."""

    source: str
    """The path of the data in a tree of the system."""
    target: str
    """The mount point in the running system."""


def settings_text(tree: Tree, path: str) -> bytes:
    """The text of a settings file; empty if it does not exist or cannot be read."""
    file = tree.follow(path)
    if not isinstance(file, File) or file.content.size > _MOST:
        return b""
    return read_small_file(file, path, _MOST, Faults(skip_unreadable=True))


def find_places(name: str, text: bytes, limits: IdRanges) -> Iterator[str]:
    """The places that a settings file refers to, relative to the root, found by the parser of that name.

    `limits`: which numbers are people's in that system.
    """
    _, read = READERS[name]
    for path in read(text, limits):
        if _is_absolute(path):
            yield _relative(path)


def binds(tree: Tree) -> tuple[Bind, ...]:
    """The bind mounts in fstab and systemd units, without those of other disks and temporary files.

    fstab(5); `bind` in mount(8); systemd.mount(5), whose units systemd looks for in these directories: systemd.unit(5)
    """
    found = [*_fstab_binds(settings_text(tree, "etc/fstab"))]
    for directory in _UNIT_DIRECTORIES:
        if isinstance(units := tree.follow(directory), Directory):
            names = [name for name in units.entries if name.endswith(".mount")]
            found += [bind for name in sorted(names) for bind in _unit_bind(settings_text(tree, f"{directory}/{name}"))]
    absolute = [bind for bind in found if _is_absolute(bind.source) and _is_absolute(bind.target)]
    relative = (Bind(_relative(bind.source), _relative(bind.target)) for bind in absolute)
    return tuple(dict.fromkeys(bind for bind in relative if bind.target.partition("/")[0] not in _PASSING))


def _fstab_binds(text: bytes) -> Iterator[Bind]:
    for fields in _fields(text):
        options = fields[3].split(b",") if len(fields) > 3 else []
        if not _BIND.isdisjoint(options):
            yield Bind(_unescape(fields[0]), _unescape(fields[1]))


def _unit_bind(text: bytes) -> Iterator[Bind]:
    what, where, options = (
        [*_values(rb"[ \t]*" + key + rb"[ \t]*=[ \t]*(.*?)[ \t]*", text)][-1:]
        for key in (b"What", b"Where", b"Options")
    )
    if what and where and options and not _BIND.isdisjoint(options[0].encode(errors="replace").split(b",")):
        yield Bind(what[0], where[0])


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and "\0" not in path


def _relative(path: str) -> str:
    return posixpath.normpath(path).strip("/")


def _fstab(text: bytes) -> Iterator[str]:
    """Swap files. fstab(5), swapon(8)"""
    for fields in _fields(text):
        if len(fields) > 2 and fields[2] == b"swap" and not fields[0].startswith(b"/dev/"):
            yield _unescape(fields[0])


def _credentials(text: bytes) -> Iterator[str]:
    """Files with passwords and keys of mounts, from options in fstab(5)."""
    for fields in _fields(text):
        for option in fields[3].split(b",") if len(fields) > 3 else ():
            name, _, value = option.partition(b"=")
            if name in _OF_CREDENTIALS:
                yield _unescape(value)


def _crypttab(text: bytes) -> Iterator[str]:
    """Disk encryption keys. crypttab(5): `/KEY`, or `/KEY:DEVICE` if it is on another disk"""
    for fields in _fields(text):
        if len(fields) > 2 and not fields[2].startswith(b"/dev/") and b":" not in fields[2]:
            yield _unescape(fields[2])


def _fields(text: bytes) -> Iterator[list[bytes]]:
    for line in text.splitlines():
        fields = line.split()
        if fields and not fields[0].startswith(b"#"):
            yield fields


def _unescape(field: bytes) -> str:
    return decode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def _swap_unit(text: bytes) -> Iterator[str]:
    """systemd.swap(5)"""
    yield from _values(rb"[ \t]*What[ \t]*=[ \t]*(.*?)[ \t]*", text)


def _dphys_swapfile(text: bytes) -> Iterator[str]:
    """dphys-swapfile(8), CONF_SWAPFILE"""
    yield from _values(rb"""[ \t]*CONF_SWAPFILE=["']?([^"'#]*?)["']?[ \t]*(?:#.*)?""", text)


def _docker(text: bytes) -> Iterator[str]:
    """dockerd(8), daemon.json"""
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(settings, dict):
        yield from (path for key in ("data-root", "graph") if isinstance(path := settings.get(key), str))


def _containerd(text: bytes) -> Iterator[str]:
    """containerd-config.toml(5), root"""
    yield from _toml_values(b"root", text)


def _containers(text: bytes) -> Iterator[str]:
    """containers-storage.conf(5), graphroot and imagestore"""
    for key in (b"graphroot", b"imagestore"):
        yield from _toml_values(key, text)


def _lxc(text: bytes) -> Iterator[str]:
    """lxc.system.conf(5)"""
    yield from _values(rb"[ \t]*lxc\.lxcpath[ \t]*=[ \t]*(.*?)[ \t]*", text)


def _mysql(text: bytes) -> Iterator[str]:
    """my.cnf, datadir"""
    yield from _path_values(rb"datadir[ \t]*=", text)


def _postgresql(text: bytes) -> Iterator[str]:
    """postgresql.conf, data_directory; the equals sign is optional"""
    yield from _path_values(rb"data_directory[ \t]*(?:=|[ \t])", text)


def _mongodb(text: bytes) -> Iterator[str]:
    """mongod.conf, storage.dbPath; in its form before 2.6, dbpath"""
    yield from _path_values(rb"(?:dbPath:|dbpath[ \t]*=)", text)


def _slapd(text: bytes) -> Iterator[str]:
    """slapd-mdb(5), directory; slapd-config(5), olcDbDirectory"""
    yield from _path_values(rb"(?:directory[ \t]|olcDbDirectory:)", text)


def _redis(text: bytes) -> Iterator[str]:
    """redis.conf and valkey.conf, dir; setting names are case-insensitive"""
    yield from _path_values(rb"(?i:dir)[ \t]", text)


def _elasticsearch(text: bytes) -> Iterator[str]:
    """elasticsearch.yml and opensearch.yml, path.data"""
    yield from _path_values(rb"path\.data:", text)


def _libvirt_pool(text: bytes) -> Iterator[str]:
    """Libvirt's formatstorage, target/path; for pools of devices a path in /dev."""
    for target in re.findall(rb"<target>(.*?)</target>", text, re.DOTALL):
        paths = map(_from_xml, re.findall(rb"<path>\s*(.*?)\s*</path>", target, re.DOTALL))
        yield from (path for path in paths if not f"{path}/".startswith("/dev/"))


def _libvirt_machine(text: bytes) -> Iterator[str]:
    """Libvirt's formatdomain, source/@file."""
    for _, path in re.findall(rb"""<source\s[^>]*?\bfile\s*=\s*(["'])(.*?)\1""", text, re.DOTALL):
        yield _from_xml(path)


def _from_xml(text: bytes) -> str:
    return unescape(decode(text))


def _path_values(key: bytes, text: bytes) -> Iterator[str]:
    """A path, optionally quoted, and followed by an optional comment."""
    yield from _values(rb"[ \t]*" + key + rb"""[ \t]*["']?([^"'#]*?)["']?[ \t]*(?:#.*)?""", text)


def _homes(text: bytes, limits: IdRanges) -> Iterator[str]:
    """Home directories of users, without those of `_homes_of_programs`."""
    return (home for home in _of_people(text, limits) if not _is_of_a_program(home))


def _homes_of_programs(text: bytes, limits: IdRanges) -> Iterator[str]:
    """Home directories that hold programs; some services run as a user with an ordinary UID."""
    return (home for home in _of_people(text, limits) if _is_of_a_program(home))


def _of_people(text: bytes, limits: IdRanges) -> Iterator[str]:
    """passwd(5)"""
    for line in text.splitlines():
        fields = line.split(b":")
        if len(fields) == _OF_PASSWD and re.fullmatch(rb"[0-9]{1,10}", fields[2]) and limits.is_person(int(fields[2])):
            home = posixpath.normpath(decode(fields[5]))
            if not f"{home}/".startswith(_OUTSIDE):
                yield home


def _is_of_a_program(home: str) -> bool:
    """hier(7)"""
    return f"{home}/".startswith(_PROGRAMS) and _HOMES.isdisjoint(home.split("/")[:-1])


def _toml_values(key: bytes, text: bytes) -> Iterator[str]:
    """A string setting; TOML tables can be ignored, since the name is unique."""
    yield from _values(rb"[ \t]*" + key + rb"""[ \t]*=[ \t]*["']([^"']*)["'][ \t]*(?:#.*)?""", text)


def _values(pattern: bytes, text: bytes) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.fullmatch(pattern, line):
            yield decode(match[1])


_OF_PASSWD = 7
_OUTSIDE = ("/home/", "/nonexistent/")
"""The first is covered by the exclusion `home/*`, and the second does not exist. base-passwd's users-and-groups"""
_PROGRAMS = ("/opt/", "/usr/", "/var/")
_HOMES = frozenset({"home", "homes"})
"""Names of directories with homes: /usr/home of BSD, /var/home of ostree."""
_BIND = frozenset({b"bind", b"rbind"})
_PASSING = frozenset({"dev", "media", "mnt", "proc", "run", "sys", "tmp"})
"""Mount points at which a bind mount adds a second view, rather than moving data. hier(7)"""
_UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system")
_OF_CREDENTIALS = frozenset({b"cred", b"credentials", b"secretfile", b"IdentityFile"})
"""mount.cifs(8); mount.ceph(8); sshfs(1), which passes on options of ssh_config(5)"""

_OF_TEXT: Mapping[str, tuple[PlaceKind, Callable[[bytes], Iterator[str]]]] = {
    "containerd": (PlaceKind.DIRECTORY, _containerd),
    "containers": (PlaceKind.DIRECTORY, _containers),
    "credentials": (PlaceKind.FILE, _credentials),
    "crypttab": (PlaceKind.FILE, _crypttab),
    "docker": (PlaceKind.DIRECTORY, _docker),
    "dphys-swapfile": (PlaceKind.FILE, _dphys_swapfile),
    "elasticsearch": (PlaceKind.DIRECTORY, _elasticsearch),
    "fstab": (PlaceKind.FILE, _fstab),
    "libvirt-machine": (PlaceKind.FILE, _libvirt_machine),
    "libvirt-pool": (PlaceKind.DIRECTORY, _libvirt_pool),
    "lxc": (PlaceKind.DIRECTORY, _lxc),
    "mongodb": (PlaceKind.DIRECTORY, _mongodb),
    "mysql": (PlaceKind.DIRECTORY, _mysql),
    "postgresql": (PlaceKind.DIRECTORY, _postgresql),
    "redis": (PlaceKind.DIRECTORY, _redis),
    "slapd": (PlaceKind.DIRECTORY, _slapd),
    "swap-unit": (PlaceKind.FILE, _swap_unit),
}

Reader = Callable[[bytes, IdRanges], Iterator[str]]


def _of_text(read: Callable[[bytes], Iterator[str]]) -> Reader:
    return lambda text, _limits: read(text)


READERS: Mapping[str, tuple[PlaceKind, Reader]] = {
    "homes": (PlaceKind.DIRECTORY, _homes),
    "homes-of-programs": (PlaceKind.DOUBTFUL, _homes_of_programs),
    **{name: (kind, _of_text(read)) for name, (kind, read) in _OF_TEXT.items()},
}
"""Parsers by the name in a row `N=NAME`."""
