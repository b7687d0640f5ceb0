"""Read VHD, the disk format of Virtual PC and Azure: dynamic and fixed.

Layout: Microsoft's Virtual Hard Disk Image Format Specification, 1.0. The size comes from the footer; QEMU alone trusts
the geometry of some writers and may drop the end. dissect.hypervisor is not used: it takes a differencing disk for a
whole one, verifies no checksums, and does not find the copy of a lost footer.
"""

from __future__ import annotations

import struct
from typing import Final

from ltsp.disk.mapping_tables import unpack_integers
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import BlockRange, Extent, MappedBlocks

MAGIC: Final = b"conectix"
FOOTER_SIZE: Final = 512
_FOOTER: Final = struct.Struct(">8sIIQ 16x 8xQ4x II")
_HEADER: Final = struct.Struct(">8s8xQIII I")
_FIXED, _DYNAMIC, _DIFFERENCE = 2, 3, 4
_UNUSED_BLOCK: Final = 0xFFFFFFFF


def is_footer(data: bytes) -> bool:
    """Whether this is a footer with a valid checksum."""
    return len(data) == FOOTER_SIZE and data.startswith(MAGIC) and _has_valid_checksum(data, 64)


def _has_valid_checksum(data: bytes, at: int) -> bool:
    """One's complement of the sum of all bytes except the checksum itself."""
    total = sum(data) - sum(data[at : at + 4])
    return ~total & 0xFFFFFFFF == int.from_bytes(data[at : at + 4], "big")


def open_vhd(file: Blocks) -> Blocks:
    """The disk. Raises FormatError, and SourceError if the image is not a whole disk."""
    copies = [file.read_at(max(file.size - FOOTER_SIZE, 0), FOOTER_SIZE), file.read_at(0, FOOTER_SIZE)]
    footer = next(filter(is_footer, copies), None)
    if footer is None:
        raise FormatError("both its footer and the copy at its start are damaged")
    _magic, _features, _version, header_at, size, kind, _sum = _FOOTER.unpack_from(footer)
    if kind == _DYNAMIC:
        return _open_dynamic(file, header_at, size)
    if kind == _DIFFERENCE:
        raise SourceError("it is a snapshot that depends on another disk", "merge it with its parent first")
    if kind != _FIXED:
        raise FormatError(f"its disk type {kind} is invalid")
    if size > file.size - FOOTER_SIZE:
        raise FormatError(f"it is truncated: the disk is {size} bytes long, but the file only {file.size}")
    return BlockRange(file, 0, size)


def _open_dynamic(file: Blocks, header_at: int, size: int) -> Blocks:
    header = read_exactly(file, header_at, 1024, "the header")
    magic, table_at, _version, count, block, _sum = _HEADER.unpack_from(header)
    if magic != b"cxsparse" or not _has_valid_checksum(header, 36):
        raise FormatError("the header is damaged")
    if block & block - 1 or not 512 <= block <= 256 << 20:
        raise FormatError(f"its block size is invalid: {block} bytes")
    if count * block < size:
        raise FormatError(f"it has {count} blocks, too few for a disk of {size} bytes")
    block_table = unpack_integers(">I", read_exactly(file, table_at, -(-size // block) * 4, "the block table"))
    # Each block begins with a bitmap of written sectors; without a parent, the others are zero.
    bitmap = -(-block // 512 // 8 // 512) * 512

    def locate(offset: int, wanted: int) -> Extent:
        index, within = divmod(offset, block)
        length = min(wanted, block - within)
        if block_table[index] == _UNUSED_BLOCK:
            return Extent(length)
        start = block_table[index] * 512 + bitmap
        if start >= file.size:
            raise FormatError(f"block {index} is beyond the end of the file")
        return Extent(length, file, start + within)

    return MappedBlocks(size, locate)
