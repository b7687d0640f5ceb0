"""What a file holds, told by its content: a squashfs, a disk, or what nobody would look for a system in."""

from __future__ import annotations

from typing import BinaryIO

from ltsp.disk import content, vmdk_descriptor
from ltsp.disk.blocks import FileBlocks

SQUASHFS = "a squashfs"
DISK = "a disk"
"""Or what is taken for one: who reads it says what it finds."""

_NO_DISKS: tuple[tuple[int, bytes, str], ...] = (
    (0x101, b"ustar", "a tar archive"),
    (0, b"070701", "a cpio archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x7fELF", "a program"),
)
_HEAD = 1024


def kind_of(file: BinaryIO) -> str:
    """SQUASHFS or DISK, or what else it holds: `text`, `nothing`, `a zip archive`. Raises SourceError."""
    blocks = FileBlocks.of(file)
    volume = content.kind_of(blocks)
    if volume == content.SQUASHFS:
        return SQUASHFS
    head = blocks.read_at(0, _HEAD)
    if volume not in {content.NOTHING, content.UNKNOWN} or head.startswith(vmdk_descriptor.MAGIC):
        return DISK  # whatever stands before its file system: an ISO may begin with a boot loader
    if not head:
        return "nothing"
    other = next((kind for at, magic, kind in _NO_DISKS if head.startswith(magic, at)), "")
    return other or ("text" if _is_text(head) else DISK)


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
