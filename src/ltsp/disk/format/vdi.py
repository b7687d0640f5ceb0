"""Read VDI, the disk format of VirtualBox: dynamic and fixed.

Layout: VirtualBox's VDICore.h. dissect.hypervisor is not used: it reads across two blocks as if they were adjacent, and
takes a differencing image for a whole disk.
"""

from __future__ import annotations

import struct
from typing import Final

from ltsp.disk.mapping_tables import unpack_integers
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import Extent, MappedBlocks

MAGIC: Final = b"\x7f\x10\xda\xbe"
MAGIC_OFFSET: Final = 0x40
_HEADER: Final = struct.Struct("<64x4xII II 256x II 20x QIIII")
_VERSION: Final = 1 << 16 | 1
_ZERO_BLOCK: Final = 0xFFFFFFFE
"""Table entry of a block that reads as zeros; the next value marks a block that was never written."""
_KINDS: Final = {3: "an undo image", 4: "a snapshot that depends on another disk"}


def open_vdi(file: Blocks) -> Blocks:
    """The disk. Raises FormatError, and SourceError if the image is not a whole disk."""
    header = _HEADER.unpack(read_exactly(file, 0, _HEADER.size, "the header"))
    version, _size, kind, _flags, map_at, data_at, size, block, extra, count, _allocated = header
    if version != _VERSION:
        raise SourceError(f"VDI version {version >> 16}.{version & 0xFFFF} is not supported")
    if kind not in {1, 2}:
        raise SourceError(
            f"it is {_KINDS.get(kind, f'a VDI image of unknown type {kind}')}",
            "make a standalone copy with VBoxManage clonemedium",
        )
    if extra or block & block - 1 or not 4096 <= block <= 256 << 20:
        raise FormatError(f"its block size is invalid: {block} bytes and {extra} extra")
    if count * block < size:
        raise FormatError(f"it has {count} blocks, too few for a disk of {size} bytes")
    block_table = unpack_integers("<I", read_exactly(file, map_at, -(-size // block) * 4, "the block table"))

    def locate(offset: int, wanted: int) -> Extent:
        index, within = divmod(offset, block)
        place, length = block_table[index], min(wanted, block - within)
        if place >= _ZERO_BLOCK:
            return Extent(length)
        start = data_at + place * block
        if start >= file.size:
            raise FormatError(f"block {index} is beyond the end of the file")
        return Extent(length, file, start + within)

    return MappedBlocks(size, locate)
