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

_MAX_SETTINGS_SIZE = 1 << 20
"""Limit on the size of a settings file in bytes."""


class PlaceKind(Enum):
    """The kind of thing that a setting refers to; anything else at the path is not left out."""

    FILE = "file"
    DIRECTORY = "directory"
    DOUBTFUL = "directory that clients may need"
    """It stays, with a warning."""


@dataclass(frozen=True, slots=True)
class BindMount:
    """A bind mount of a system; both paths are relative to the root."""

    source: str
    """The path of the data in a tree of the system."""
    target: str
    """The mount point in the running system."""


def read_settings(tree: Tree, path: str) -> bytes:
    """The text of a settings file; empty if it does not exist or cannot be read."""
    file = tree.follow(path)
    if not isinstance(file, File) or file.content.size > _MAX_SETTINGS_SIZE:
        return b""
    return read_small_file(file, path, _MAX_SETTINGS_SIZE, Faults(skip_unreadable=True))


def find_named_paths(name: str, text: bytes, id_ranges: IdRanges) -> Iterator[str]:
    """The places that a settings file refers to, relative to the root, found by the parser of that name.

    `id_ranges`: which numbers are people's in that system.
    """
    _, read = PARSERS[name]
    for path in read(text, id_ranges):
        if _is_absolute(path):
            yield _to_relative(path)


def find_bind_mounts(tree: Tree) -> tuple[BindMount, ...]:
    """The bind mounts in fstab and systemd units, without those of other disks and temporary files.

    fstab(5); `bind` in mount(8); systemd.mount(5), whose units systemd looks for in these directories: systemd.unit(5)
    """
    found = [*_parse_fstab_binds(read_settings(tree, "etc/fstab"))]
    for directory in _UNIT_DIRECTORIES:
        if isinstance(units := tree.follow(directory), Directory):
            names = [name for name in units.entries if name.endswith(".mount")]
            found += [
                bind for name in sorted(names) for bind in _parse_unit_bind(read_settings(tree, f"{directory}/{name}"))
            ]
    absolute = [bind for bind in found if _is_absolute(bind.source) and _is_absolute(bind.target)]
    relative = (BindMount(_to_relative(bind.source), _to_relative(bind.target)) for bind in absolute)
    return tuple(
        dict.fromkeys(bind for bind in relative if bind.target.partition("/")[0] not in _IGNORED_MOUNT_DIRECTORIES)
    )


def _parse_fstab_binds(text: bytes) -> Iterator[BindMount]:
    for fields in _split_fields(text):
        options = fields[3].split(b",") if len(fields) > 3 else []
        if not _BIND_OPTIONS.isdisjoint(options):
            yield BindMount(_unescape(fields[0]), _unescape(fields[1]))


def _parse_unit_bind(text: bytes) -> Iterator[BindMount]:
    what, where, options = (
        [*_match_values(rb"[ \t]*" + key + rb"[ \t]*=[ \t]*(.*?)[ \t]*", text)][-1:]
        for key in (b"What", b"Where", b"Options")
    )
    if what and where and options and not _BIND_OPTIONS.isdisjoint(options[0].encode(errors="replace").split(b",")):
        yield BindMount(what[0], where[0])


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and "\0" not in path


def _to_relative(path: str) -> str:
    return posixpath.normpath(path).strip("/")


def _fstab(text: bytes) -> Iterator[str]:
    """Swap files. fstab(5), swapon(8)"""
    for fields in _split_fields(text):
        if len(fields) > 2 and fields[2] == b"swap" and not fields[0].startswith(b"/dev/"):
            yield _unescape(fields[0])


def _credentials(text: bytes) -> Iterator[str]:
    """Files with passwords and keys of mounts, from options in fstab(5)."""
    for fields in _split_fields(text):
        for option in fields[3].split(b",") if len(fields) > 3 else ():
            name, _, value = option.partition(b"=")
            if name in _CREDENTIAL_OPTIONS:
                yield _unescape(value)


def _crypttab(text: bytes) -> Iterator[str]:
    """Disk encryption keys. crypttab(5): `/KEY`, or `/KEY:DEVICE` if it is on another disk"""
    for fields in _split_fields(text):
        if len(fields) > 2 and not fields[2].startswith(b"/dev/") and b":" not in fields[2]:
            yield _unescape(fields[2])


def _split_fields(text: bytes) -> Iterator[list[bytes]]:
    for line in text.splitlines():
        fields = line.split()
        if fields and not fields[0].startswith(b"#"):
            yield fields


def _unescape(field: bytes) -> str:
    return decode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def _swap_unit(text: bytes) -> Iterator[str]:
    """systemd.swap(5)"""
    yield from _match_values(rb"[ \t]*What[ \t]*=[ \t]*(.*?)[ \t]*", text)


def _dphys_swapfile(text: bytes) -> Iterator[str]:
    """dphys-swapfile(8), CONF_SWAPFILE"""
    yield from _match_values(rb"""[ \t]*CONF_SWAPFILE=["']?([^"'#]*?)["']?[ \t]*(?:#.*)?""", text)


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
    yield from _match_toml_strings(b"root", text)


def _containers(text: bytes) -> Iterator[str]:
    """containers-storage.conf(5), graphroot and imagestore"""
    for key in (b"graphroot", b"imagestore"):
        yield from _match_toml_strings(key, text)


def _lxc(text: bytes) -> Iterator[str]:
    """lxc.system.conf(5)"""
    yield from _match_values(rb"[ \t]*lxc\.lxcpath[ \t]*=[ \t]*(.*?)[ \t]*", text)


def _mysql(text: bytes) -> Iterator[str]:
    """my.cnf, datadir"""
    yield from _match_paths(rb"datadir[ \t]*=", text)


def _postgresql(text: bytes) -> Iterator[str]:
    """postgresql.conf, data_directory; the equals sign is optional"""
    yield from _match_paths(rb"data_directory[ \t]*(?:=|[ \t])", text)


def _mongodb(text: bytes) -> Iterator[str]:
    """mongod.conf, storage.dbPath; in its form before 2.6, dbpath"""
    yield from _match_paths(rb"(?:dbPath:|dbpath[ \t]*=)", text)


def _slapd(text: bytes) -> Iterator[str]:
    """slapd-mdb(5), directory; slapd-config(5), olcDbDirectory"""
    yield from _match_paths(rb"(?:directory[ \t]|olcDbDirectory:)", text)


def _redis(text: bytes) -> Iterator[str]:
    """redis.conf and valkey.conf, dir; setting names are case-insensitive"""
    yield from _match_paths(rb"(?i:dir)[ \t]", text)


def _elasticsearch(text: bytes) -> Iterator[str]:
    """elasticsearch.yml and opensearch.yml, path.data"""
    yield from _match_paths(rb"path\.data:", text)


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


def _match_paths(key: bytes, text: bytes) -> Iterator[str]:
    """A path, optionally quoted, and followed by an optional comment."""
    yield from _match_values(rb"[ \t]*" + key + rb"""[ \t]*["']?([^"'#]*?)["']?[ \t]*(?:#.*)?""", text)


def _find_homes(text: bytes, id_ranges: IdRanges) -> Iterator[str]:
    """Home directories of users, without those of `_find_program_homes`."""
    return (home for home in _find_user_homes(text, id_ranges) if not _is_program_home(home))


def _find_program_homes(text: bytes, id_ranges: IdRanges) -> Iterator[str]:
    """Home directories that hold programs; some services run as a user with an ordinary UID."""
    return (home for home in _find_user_homes(text, id_ranges) if _is_program_home(home))


def _find_user_homes(text: bytes, id_ranges: IdRanges) -> Iterator[str]:
    """passwd(5)"""
    for line in text.splitlines():
        fields = line.split(b":")
        if (
            len(fields) == _PASSWD_FIELDS
            and re.fullmatch(rb"[0-9]{1,10}", fields[2])
            and id_ranges.is_user(int(fields[2]))
        ):
            home = posixpath.normpath(decode(fields[5]))
            if not f"{home}/".startswith(_IGNORED_HOMES):
                yield home


def _is_program_home(home: str) -> bool:
    """hier(7)"""
    return f"{home}/".startswith(_PROGRAM_DIRECTORIES) and _HOME_PARENTS.isdisjoint(home.split("/")[:-1])


def _match_toml_strings(key: bytes, text: bytes) -> Iterator[str]:
    """A string setting; TOML tables can be ignored, since the name is unique."""
    yield from _match_values(rb"[ \t]*" + key + rb"""[ \t]*=[ \t]*["']([^"']*)["'][ \t]*(?:#.*)?""", text)


def _match_values(pattern: bytes, text: bytes) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.fullmatch(pattern, line):
            yield decode(match[1])


_PASSWD_FIELDS = 7
_IGNORED_HOMES = ("/home/", "/nonexistent/")
"""The first is covered by the exclusion `home/*`, and the second does not exist. base-passwd's users-and-groups"""
_PROGRAM_DIRECTORIES = ("/opt/", "/usr/", "/var/")
_HOME_PARENTS = frozenset({"home", "homes"})
"""Names of directories with homes: /usr/home of BSD, /var/home of ostree."""
_BIND_OPTIONS = frozenset({b"bind", b"rbind"})
_IGNORED_MOUNT_DIRECTORIES = frozenset({"dev", "media", "mnt", "proc", "run", "sys", "tmp"})
"""Mount points at which a bind mount adds a second view, rather than moving data. hier(7)"""
_UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system")
_CREDENTIAL_OPTIONS = frozenset({b"cred", b"credentials", b"secretfile", b"IdentityFile"})
"""mount.cifs(8); mount.ceph(8); sshfs(1), which passes on options of ssh_config(5)"""

_TEXT_PARSERS: Mapping[str, tuple[PlaceKind, Callable[[bytes], Iterator[str]]]] = {
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

SettingsParser = Callable[[bytes, IdRanges], Iterator[str]]


def _ignore_id_ranges(read: Callable[[bytes], Iterator[str]]) -> SettingsParser:
    return lambda text, _limits: read(text)


PARSERS: Mapping[str, tuple[PlaceKind, SettingsParser]] = {
    "homes": (PlaceKind.DIRECTORY, _find_homes),
    "homes-of-programs": (PlaceKind.DOUBTFUL, _find_program_homes),
    **{name: (kind, _ignore_id_ranges(read)) for name, (kind, read) in _TEXT_PARSERS.items()},
}
"""Parsers by the name in a row `N=NAME`."""
