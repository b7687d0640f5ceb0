"""VHD, the disks of Virtual PC and Azure: dynamic and fixed.

Layout: Microsoft's Virtual Hard Disk Image Format Specification, 1.0. The size is that in the footer, as everybody
but QEMU has it, who trusts the geometry of some writers and may leave out the end. dissect.hypervisor is not used: it
takes a difference for a whole disk, checks no sums, and does not find the copy of a lost footer.
"""

from __future__ import annotations

import struct
from typing import Final

from ltsp.disk.blocks import Run, Scattered, Window, numbers
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly

MAGIC: Final = b"conectix"
FOOTER: Final = 512
_FOOTER: Final = struct.Struct(">8sIIQ 16x 8xQ4x II")
_HEADER: Final = struct.Struct(">8s8xQIII I")
_FIXED, _DYNAMIC, _DIFFERENCE = 2, 3, 4
_UNUSED: Final = 0xFFFFFFFF


def footer_of(data: bytes) -> bool:
    """Whether this is a footer with a right sum, which random data hardly is."""
    return len(data) == FOOTER and data.startswith(MAGIC) and _summed(data, 64)


def _summed(data: bytes, at: int) -> bool:
    """One's complement of the sum of all bytes but the sum's own."""
    total = sum(data) - sum(data[at : at + 4])
    return ~total & 0xFFFFFFFF == int.from_bytes(data[at : at + 4], "big")


def open_vhd(file: Blocks) -> Blocks:
    """The disk. Raises FormatError, and SourceError for an image that is no whole disk."""
    copies = [file.read_at(max(file.size - FOOTER, 0), FOOTER), file.read_at(0, FOOTER)]
    footer = next(filter(footer_of, copies), None)
    if footer is None:
        raise FormatError("neither its footer nor the copy at its start is whole")
    _magic, _features, _version, header_at, size, kind, _sum = _FOOTER.unpack_from(footer)
    if kind == _DYNAMIC:
        return _dynamic(file, header_at, size)
    if kind == _DIFFERENCE:
        raise SourceError("it is a snapshot's difference to another disk", "merge it with its parent first")
    if kind != _FIXED:
        raise FormatError(f"it is of kind {kind}, which is none")
    if size > file.size - FOOTER:
        raise FormatError(f"it is cut off: the disk has {size} bytes, and the file {file.size}")
    return Window(file, 0, size)


def _dynamic(file: Blocks, header_at: int, size: int) -> Blocks:
    header = read_exactly(file, header_at, 1024, "the header")
    magic, table_at, _version, count, block, _sum = _HEADER.unpack_from(header)
    if magic != b"cxsparse" or not _summed(header, 36):
        raise FormatError("the header is damaged")
    if block & block - 1 or not 512 <= block <= 256 << 20:
        raise FormatError(f"its blocks have {block} bytes")
    if count * block < size:
        raise FormatError(f"it has {count} blocks, which is too little for a disk of {size} bytes")
    places = numbers(">I", read_exactly(file, table_at, -(-size // block) * 4, "the table of blocks"))
    # A map of the sectors that were written comes first; in a disk that has no parent the others are zero.
    bitmap = -(-block // 512 // 8 // 512) * 512

    def run(offset: int, wanted: int) -> Run:
        index, within = divmod(offset, block)
        length = min(wanted, block - within)
        if places[index] == _UNUSED:
            return Run(length)
        start = places[index] * 512 + bitmap
        if start >= file.size:
            raise FormatError(f"block {index} lies beyond the end of the file")
        return Run(length, file, start + within)

    return Scattered(size, run)
