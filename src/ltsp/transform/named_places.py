"""Places that settings files of a system name: swap files, and where a tool keeps its store.

Each reader is given the text of a file and gives the absolute paths in it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

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
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == b"swap" and not fields[0].startswith(b"/dev/"):
            yield decode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), fields[0]))


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


def _toml(key: bytes, text: bytes) -> Iterator[str]:
    """A string of a setting; tables do not matter, since no other one has the name."""
    yield from _values(rb"[ \t]*" + key + rb"""[ \t]*=[ \t]*["']([^"']*)["'][ \t]*(?:#.*)?""", text)


def _values(pattern: bytes, text: bytes) -> Iterator[str]:
    for line in text.splitlines():
        if match := re.fullmatch(pattern, line):
            yield decode(match[1])


READERS: Mapping[str, tuple[Named, Callable[[bytes], Iterator[str]]]] = {
    "containerd": (Named.DIRECTORY, _containerd),
    "containers": (Named.DIRECTORY, _containers),
    "docker": (Named.DIRECTORY, _docker),
    "dphys-swapfile": (Named.FILE, _dphys_swapfile),
    "fstab": (Named.FILE, _fstab),
    "lxc": (Named.DIRECTORY, _lxc),
    "swap-unit": (Named.FILE, _swap_unit),
}
"""By the name in a row `N=NAME`."""
