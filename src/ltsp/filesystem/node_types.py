"""Create a node from the type bits of a mode. inode(7)"""

from __future__ import annotations

import stat

from ltsp.errors import FormatError
from ltsp.tree.content import Bytes, Content
from ltsp.tree.name import decode
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink

_EMPTY = Bytes(b"")


def make_node(
    mode: int, metadata: Metadata, *, content: Content = _EMPTY, target: bytes = b"", device: tuple[int, int] = (0, 0)
) -> Node:
    """Raises FormatError for an unknown type, and for a symbolic link without a valid target."""
    match stat.S_IFMT(mode):
        case stat.S_IFREG:
            return File(metadata, content)
        case stat.S_IFDIR:
            return Directory(metadata)
        case stat.S_IFLNK:
            if not target or b"\0" in target:
                raise FormatError("it is a symbolic link without a target, or with a NUL in its target")
            return Symlink(metadata, decode(target))
        case stat.S_IFBLK:
            return Device(metadata, DeviceKind.BLOCK, *device)
        case stat.S_IFCHR:
            return Device(metadata, DeviceKind.CHARACTER, *device)
        case stat.S_IFIFO:
            return Fifo(metadata)
        case stat.S_IFSOCK:
            return Socket(metadata)
        case other:
            raise FormatError(f"its file type 0o{other:o} is invalid")
