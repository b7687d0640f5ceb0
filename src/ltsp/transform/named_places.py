"""Places that settings files of a system name: swap files, keys and passwords, and where a tool keeps its store.

Each reader is given the text of a file and gives the absolute paths in it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from ltsp.transform.accounts import Limits
from ltsp.tree.name import decode


class Named(Enum):
    """What lies there; of anything else, the setting is no reason to leave it out."""

    FILE = "file"
    DIRECTORY = "directory"


def places(name: str, text: bytes) -> Iterator[str]:
    """The places that a settings file names, relative to the root, by the reader of that name."""
    _, read = READERS[name]
    for path in read(text):
        if path.startswith("/") and "\0" not in path:
            yield posixpath.normpath(path).strip("/")


def _fstab(text: bytes) -> Iterator[str]:
    """Swap files. fstab(5), swapon(8)"""
    for fields in _fields(text):
        if len(fields) > 2 and fields[2] == b"swap" and not fields[0].startswith(b"/dev/"):
            yield _unescaped(fields[0])


def _bound(text: bytes) -> Iterator[str]:
    """People's data that is mounted where exclusions look for it; fstab(5), and `bind` in mount(8)"""
    for fields in _fields(text):
        options = fields[3].split(b",") if len(fields) > 3 else []
        if not {b"bind", b"rbind"}.isdisjoint(options) and f"{_unescaped(fields[1])}/".startswith(_OF_PEOPLE):
            yield _unescaped(fields[0])


def _credentials(text: bytes) -> Iterator[str]:
    """Files with the passwords and keys of mounts: options in fstab(5)."""
    for fields in _fields(text):
        for option in fields[3].split(b",") if len(fields) > 3 else ():
            name, _, value = option.partition(b"=")
            if name in _OF_CREDENTIALS:
                yield _unescaped(value)


def _crypttab(text: bytes) -> Iterator[str]:
    """Keys of disks; crypttab(5): `/KEY`, or `/KEY:DEVICE` where it lies on another disk."""
    for fields in _fields(text):
        if len(fields) > 2 and not fields[2].startswith(b"/dev/") and b":" not in fields[2]:
            yield _unescaped(fields[2])


def _fields(text: bytes) -> Iterator[list[bytes]]:
    for line in text.splitlines():
        fields = line.split()
        if fields and not fields[0].startswith(b"#"):
            yield fields


def _unescaped(field: bytes) -> str:
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
    yield from _toml(b"root", text)


def _containers(text: bytes) -> Iterator[str]:
    """containers-storage.conf(5), graphroot and imagestore"""
    for key in (b"graphroot", b"imagestore"):
        yield from _toml(key, text)


def _lxc(text: bytes) -> Iterator[str]:
    """lxc.system.conf(5)"""
    yield from _values(rb"[ \t]*lxc\.lxcpath[ \t]*=[ \t]*(.*?)[ \t]*", text)


def _mysql(text: bytes) -> Iterator[str]:
    """my.cnf, datadir"""
    yield from _setting(rb"datadir[ \t]*=", text)


def _postgresql(text: bytes) -> Iterator[str]:
    """postgresql.conf, data_directory; the equals sign is optional"""
    yield from _setting(rb"data_directory[ \t]*(?:=|[ \t])", text)


def _mongodb(text: bytes) -> Iterator[str]:
    """mongod.conf, storage.dbPath; in its form before 2.6, dbpath"""
    yield from _setting(rb"(?:dbPath:|dbpath[ \t]*=)", text)


def _slapd(text: bytes) -> Iterator[str]:
    """slapd-mdb(5), directory; slapd-config(5), olcDbDirectory"""
    yield from _setting(rb"(?:directory[ \t]|olcDbDirectory:)", text)


def _setting(key: bytes, text: bytes) -> Iterator[str]:
    """A path, in quotes or not, with a comment behind it or not."""
    yield from _values(rb"[ \t]*" + key + rb"""[ \t]*["']?([^"'#]*?)["']?[ \t]*(?:#.*)?""", text)


def _homes(text: bytes) -> Iterator[str]:
    """Homes of people, but where programs lie, some of which run as one; passwd(5), hier(7)"""
    for line in text.splitlines():
        fields = line.split(b":")
        if len(fields) == _OF_PASSWD and re.fullmatch(rb"[0-9]{1,10}", fields[2]) and int(fields[2]) in _PEOPLE:
            home = posixpath.normpath(decode(fields[5]))
            if not f"{home}/".startswith(_NO_HOMES):
                yield home


def _toml(key: bytes, text: bytes) -> Iterator[str]:
    """A string of a setting; tables do not matter, since no other one has the name."""
    yield from _values(rb"[ \t]*" + key + rb"""[ \t]*=[ \t]*["']([^"']*)["'][ \t]*(?:#.*)?""", text)


def _values(pattern: bytes, text: bytes) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.fullmatch(pattern, line):
            yield decode(match[1])


_OF_PASSWD = 7
_PEOPLE = range(Limits().uid_min, Limits().uid_max + 1)
_NO_HOMES = ("/home/", "/nonexistent/", "/opt/", "/usr/", "/var/")
"""The exclusion `home/*` is about the first; what lies at the others is somebody's program."""
_OF_PEOPLE = ("/home/", "/root/", "/srv/")
_OF_CREDENTIALS = frozenset({b"cred", b"credentials", b"secretfile", b"IdentityFile"})
"""mount.cifs(8); mount.ceph(8); sshfs(1), which hands options of ssh_config(5) on"""

READERS: Mapping[str, tuple[Named, Callable[[bytes], Iterator[str]]]] = {
    "binds": (Named.DIRECTORY, _bound),
    "containerd": (Named.DIRECTORY, _containerd),
    "containers": (Named.DIRECTORY, _containers),
    "credentials": (Named.FILE, _credentials),
    "crypttab": (Named.FILE, _crypttab),
    "docker": (Named.DIRECTORY, _docker),
    "dphys-swapfile": (Named.FILE, _dphys_swapfile),
    "fstab": (Named.FILE, _fstab),
    "homes": (Named.DIRECTORY, _homes),
    "lxc": (Named.DIRECTORY, _lxc),
    "mongodb": (Named.DIRECTORY, _mongodb),
    "mysql": (Named.DIRECTORY, _mysql),
    "postgresql": (Named.DIRECTORY, _postgresql),
    "slapd": (Named.DIRECTORY, _slapd),
    "swap-unit": (Named.FILE, _swap_unit),
}
"""By the name in a row `N=NAME`."""
