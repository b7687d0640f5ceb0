"""Detects from its content whether a file is a squashfs, a disk, or something that holds no system."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from ltsp.disk import image, probe
from ltsp.disk.blocks import FileBlocks
from ltsp.disk.format import vmdk_descriptor

SQUASHFS: Final = "a squashfs"
DISK: Final = "a disk"
"""Also anything unrecognized: its reader reports what it finds."""

_HEAD: Final = 1024
_DMG_TRAILER_SIZE, _DMG_MAGIC = 512, b"koly"
"""The trailer of a macOS disk image. dmg2img, dmg2img.h"""
_NAMES: Final = {
    ".qcow2": image.QCOW2,
    ".vdi": image.VDI,
    ".vhd": image.VHD,
    ".vhdx": image.VHDX,
    ".vmdk": image.VMDK,
}
"""File name suffixes that stand for exactly one format."""
_FLAT: Final = "-flat.vmdk"
"""Suffix of the raw disk that a VMDK descriptor next to it refers to."""


def detect_file_kind(file: BinaryIO) -> str:
    """SQUASHFS, DISK, or another kind, in a word of `probe.FORMATS`. Raises SourceError."""
    blocks = FileBlocks.of(file)
    volume = probe.detect_kind(blocks)
    if volume == probe.SQUASHFS:
        return SQUASHFS
    head = blocks.read_at(0, _HEAD)
    if volume not in {probe.NOTHING, probe.UNKNOWN} or head.startswith(vmdk_descriptor.MAGIC):
        return DISK  # whatever precedes its file system: an ISO may begin with a boot loader
    if not head:
        return probe.NOTHING
    if blocks.read_at(max(blocks.size - _DMG_TRAILER_SIZE, 0), len(_DMG_MAGIC)) == _DMG_MAGIC:
        return "dmg"
    other = next((kind for at, magic, kind in probe.FILE_MAGICS if head.startswith(magic, at)), "")
    return other or (probe.TEXT if _is_text(head) else DISK)


def find_misnamed_format(path: str, file: BinaryIO) -> str:
    """The format that a file's name claims, if its content is of no known format; else empty. Raises SourceError."""
    said = _NAMES.get(os.path.splitext(path)[1].lower(), "")
    if not said or path.lower().endswith(_FLAT) or image.detect_format(FileBlocks.of(file)) != image.RAW:
        return ""
    return said


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
