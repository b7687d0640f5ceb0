"""What a file holds, told by its content: a squashfs, a disk, or what nobody would look for a system in."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from ltsp.disk import image, probe
from ltsp.disk.blocks import FileBlocks
from ltsp.disk.format import vmdk_descriptor

SQUASHFS: Final = "a squashfs"
DISK: Final = "a disk"
"""Or what is taken for one: who reads it says what it finds."""

_HEAD: Final = 1024
_TRAILER, _OF_DMG = 512, b"koly"
"""What a disk image of macOS ends with. dmg2img, dmg2img.h"""
_NAMES: Final = {
    ".qcow2": image.QCOW2,
    ".vdi": image.VDI,
    ".vhd": image.VHD,
    ".vhdx": image.VHDX,
    ".vmdk": image.VMDK,
}
"""Suffixes that say one format."""
_FLAT: Final = "-flat.vmdk"
"""The raw disk that a descriptor beside it names."""


def kind_of(file: BinaryIO) -> str:
    """SQUASHFS or DISK, or the kind of what else it holds, in a word of `content.FORMATS`. Raises SourceError."""
    blocks = FileBlocks.of(file)
    volume = probe.kind_of(blocks)
    if volume == probe.SQUASHFS:
        return SQUASHFS
    head = blocks.read_at(0, _HEAD)
    if volume not in {probe.NOTHING, probe.UNKNOWN} or head.startswith(vmdk_descriptor.MAGIC):
        return DISK  # whatever stands before its file system: an ISO may begin with a boot loader
    if not head:
        return probe.NOTHING
    if blocks.read_at(max(blocks.size - _TRAILER, 0), len(_OF_DMG)) == _OF_DMG:
        return "dmg"
    other = next((kind for at, magic, kind in probe.FILES if head.startswith(magic, at)), "")
    return other or (probe.TEXT if _is_text(head) else DISK)


def false_name(path: str, file: BinaryIO) -> str:
    """The format that a file's name says, where its content is of none; else empty. Raises SourceError."""
    said = _NAMES.get(os.path.splitext(path)[1].lower(), "")
    if not said or path.lower().endswith(_FLAT) or image.format_of(FileBlocks.of(file)) != image.RAW:
        return ""
    return said


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
