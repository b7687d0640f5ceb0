"""Write tables of an image: records in metadata blocks, and the lists of their offsets."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack

from ltsp.squashfs.format import METADATA_SIZE, METADATA_STORED
from ltsp.squashfs.output import ImageOutput

Compress = Callable[[bytes], bytes | bytearray]
"""Compresses metadata; `bytes` leaves it uncompressed."""


@dataclass(slots=True)
class MetadataWriter:
    """Writes a stream of metadata blocks, each as soon as it is full."""

    put: Callable[[bytes | bytearray], None]
    """Called with header and contents of each block, in order."""
    compress: Compress
    block: int = field(init=False, default=0)
    """Offset of the open block relative to the first one, in bytes."""
    _open: bytearray = field(init=False, default_factory=bytearray)

    @property
    def offset(self) -> int:
        """Bytes in the open block: 0 to METADATA_SIZE - 1."""
        return len(self._open)

    @property
    def reference(self) -> int:
        """The reference of the next write."""
        return self.block << 16 | len(self._open)

    def write(self, data: bytes | bytearray) -> int:
        """Append data; return its reference."""
        waiting = self._open
        reference = self.block << 16 | len(waiting)
        waiting += data
        while len(waiting) >= METADATA_SIZE:
            self._write_block(bytes(waiting[:METADATA_SIZE]))
            del waiting[:METADATA_SIZE]
        return reference

    def close(self) -> None:
        if self._open:
            self._write_block(bytes(self._open))
            self._open.clear()

    def _write_block(self, raw: bytes) -> None:
        packed = self.compress(raw)
        if len(packed) < len(raw):
            self.put(pack("<H", len(packed)))
            self.put(packed)
            self.block += 2 + len(packed)
        else:
            self.put(pack("<H", len(raw) | METADATA_STORED))
            self.put(raw)
            self.block += 2 + len(raw)


def write_table(output: ImageOutput, records: bytes | bytearray, compress: Compress) -> list[int]:
    """Write records in metadata blocks; return the offsets of the blocks in the image."""
    begin = output.position
    writer = MetadataWriter(output.write, compress)
    block_offsets: list[int] = []
    for at in range(0, len(records), METADATA_SIZE):
        block_offsets.append(begin + writer.block)
        writer.write(records[at : at + METADATA_SIZE])
    writer.close()
    return block_offsets


def write_indexed_table(output: ImageOutput, records: bytes | bytearray, compress: Compress) -> int:
    """Write records in metadata blocks, then the list of the blocks' offsets; return the offset of the list."""
    block_offsets = write_table(output, records, compress)
    at = output.position
    output.write(pack(f"<{len(block_offsets)}Q", *block_offsets))
    return at


def pack_little_endian(column: array[int]) -> bytes:
    """The column as little-endian records of a table."""
    return pack(f"<{len(column)}{column.typecode}", *column)
