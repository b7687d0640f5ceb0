"""The nodes of a tree: a union of frozen values, compared by identity.

Two entries with the same node are hard links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ltsp.tree.content import Content

MAX_MTIME = 0xFFFF_FFFF
"""The latest time that squashfs and newc can store: unsigned 32-bit seconds, from 1970 to 2106."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of every node. inode(7)"""

    mode: int
    """Permission bits, 0 to 0o7777; the type is the node's class."""
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Whole seconds since 1970; may be negative or beyond 32 bits."""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    """Full names (`user.a`, `security.capability`) and values, in the order of the names' bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    metadata: Metadata
    entries: Mapping[str, Node] = field(default_factory=dict)
    """In no particular order; writers sort by the names' bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class File:
    metadata: Metadata
    content: Content


@dataclass(frozen=True, slots=True, eq=False)
class Symlink:
    metadata: Metadata
    target: str


class DeviceKind(Enum):
    BLOCK = "b"
    CHARACTER = "c"


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    metadata: Metadata
    kind: DeviceKind
    major: int
    minor: int


@dataclass(frozen=True, slots=True, eq=False)
class Fifo:
    metadata: Metadata


@dataclass(frozen=True, slots=True, eq=False)
class Socket:
    metadata: Metadata


Node = Directory | File | Symlink | Device | Fifo | Socket


def clamp_time(mtime: int) -> int:
    """The nearest time from 1970 to 2106."""
    return min(max(mtime, 0), MAX_MTIME)
