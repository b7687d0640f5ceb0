"""Read an image file at any offset, and its tables: runs of metadata blocks, and the arrays stored in them.

No number in the image is trusted. Requests are limited by the table's range in the file, and memory by a
`MemoryBudget`.
"""

from __future__ import annotations

import io
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from ltsp.errors import FormatError
from ltsp.squashfs.format import METADATA_SIZE, METADATA_STORED


class ImageFile:
    """A seekable file that is open for reading; several threads may read at once. The caller closes it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        """For messages."""
        self._file = file
        self._lock = Lock()
        self.size = file.seek(0, io.SEEK_END)
        """Bytes; determined by seeking, because a block device has no size in `stat(2)`."""
        try:
            self._descriptor: int | None = file.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None

    def read(self, block_start: int, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises FormatError if the file is too short, and OSError like `pread(2)`.
        """
        data = self.read_up_to(block_start, size)
        if len(data) < size:
            raise FormatError(
                f"{self.name} is truncated: {size} bytes expected at {block_start}, "
                f"but it ends at {block_start + len(data)}"
            )
        return data

    def read_up_to(self, block_start: int, size: int) -> bytes:
        """At most `size` bytes, fewer at the end."""
        if block_start >= self.size:
            return b""
        pieces: list[bytes] = []
        left = min(size, self.size - block_start)
        while left:
            piece = self._read_some(block_start, left)
            if not piece:
                break
            pieces.append(piece)
            block_start += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_some(self, block_start: int, size: int) -> bytes:
        if self._descriptor is not None:
            return os.pread(self._descriptor, size, block_start)
        with self._lock:
            self._file.seek(block_start)
            return self._file.read(size)


Decompress = Callable[[bytes, int], bytes]
"""Takes stored bytes and the maximum decompressed size; FormatError if they are damaged or decompress to more."""

_CACHED_BLOCKS = 4096
"""Decompressed metadata blocks to cache for each table: 32 MiB."""


@dataclass(slots=True)
class MemoryBudget:
    """Limits the memory of an image's tree, which a small hostile image could exhaust."""

    left: int
    """Bytes."""

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise FormatError("the image has far more files and names than its size allows")


@dataclass(slots=True)
class MetadataTable:
    """Consecutive metadata blocks. Offsets are relative to the first one."""

    file: ImageFile
    decompress: Decompress
    name: str
    """For messages: `inode table`."""
    start: int
    end: int
    """Of the table in the image, in bytes."""
    _blocks: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """By offset: the content of a block, and the offset of the next one."""

    def block(self, block_start: int) -> tuple[bytes, int]:
        """The decompressed block at an offset, never empty, and the offset of the next one."""
        known = self._blocks.get(block_start)
        if known is None:
            known = self._read(block_start)
            if len(self._blocks) >= _CACHED_BLOCKS:
                self._blocks.clear()
            self._blocks[block_start] = known
        return known

    def view(self, block_start: int, offset: int, size: int) -> tuple[bytes, int]:
        """Bytes, and the offset in them from which `size` bytes are available.

        `offset` counts from the start of the decompressed block at `block_start`; the range may extend into
        the next ones.
        """
        data, following = self.block(block_start)
        if offset + size <= len(data):
            return data, offset
        if offset >= len(data):
            raise self.damage_error(block_start, f"offset {offset} is beyond its {len(data)} bytes")
        pieces = [data[offset:]]
        missing = size - len(pieces[0])
        while missing > 0:
            if len(data) < METADATA_SIZE:
                raise self.damage_error(block_start, f"the table ends {missing} bytes too early")
            block_start = following
            data, following = self.block(block_start)
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces), 0

    def pieces(self, block_start: int, offset: int, size: int) -> Iterator[bytes]:
        """Like `view`, but block by block, for large ranges."""
        while size > 0:
            data, at = self.view(block_start, offset, 1)
            piece = data[at : at + size]
            yield piece
            size -= len(piece)
            if size > 0 and len(data) < METADATA_SIZE:
                raise self.damage_error(block_start, f"the table ends {size} bytes too early")
            block_start, offset = self.block(block_start)[1], 0

    def blocks(self) -> Iterator[bytes]:
        """All decompressed blocks, from first to last. They fill the table, and only the last may be short."""
        block_start, data = 0, bytes(METADATA_SIZE)
        while block_start < self.end - self.start:
            if len(data) < METADATA_SIZE:
                raise self.damage_error(block_start, "the block before it is not full")
            data, block_start = self._read(block_start)
            yield data

    def damage_error(self, block_start: int, fault: str) -> FormatError:
        return FormatError(f"{self.name} is damaged: block at {self.start + block_start}: {fault}")

    def _read(self, block_start: int) -> tuple[bytes, int]:
        at = self.start + block_start
        raw = self.file.read_up_to(at, min(2 + METADATA_SIZE, self.end - at)) if at < self.end else b""
        if len(raw) < 2:
            raise self.damage_error(block_start, f"it is beyond the end of the table, at {self.end}")
        header = int.from_bytes(raw[:2], "little")
        size = header & ~METADATA_STORED
        stored = raw[2 : 2 + size]
        if not 0 < size <= METADATA_SIZE or len(stored) < size:
            raise self.damage_error(block_start, f"invalid size: {size} bytes")
        try:
            data = stored if header & METADATA_STORED else self.decompress(stored, METADATA_SIZE)
        except FormatError as error:
            raise self.damage_error(block_start, error.message) from error
        if not data:
            raise self.damage_error(block_start, "it is empty")
        return data, block_start + 2 + size


class LookupTable:
    """An array of records in metadata blocks, followed by a list of the blocks' offsets."""

    def __init__(
        self,
        file: ImageFile,
        decompress: Decompress,
        name: str,
        *,
        list_offset: int,
        count: int,
        entry_size: int,
        limits: range,
    ) -> None:
        """`list_offset`: offset of the list; `entry_size`: size of a record in bytes; `limits`: the allowed range."""
        self.name = name
        self.count = count
        self._entry_size = entry_size
        blocks = -(-count * entry_size // METADATA_SIZE)
        if list_offset + 8 * blocks > limits.stop:
            raise FormatError(f"{name} is damaged: {count} entries at {list_offset} do not fit before {limits.stop}")
        self._block_offsets = array("Q", file.read(list_offset, 8 * blocks))
        if sys.byteorder == "big":
            self._block_offsets.byteswap()
        self.start = self._block_offsets[0] if blocks else list_offset
        """Start in the image, in bytes."""
        outside = [block_start for block_start in self._block_offsets if not limits.start <= block_start < list_offset]
        if outside:
            raise FormatError(f"{name} is damaged: block at {outside[0]} is outside of {limits.start} to {list_offset}")
        self._table = MetadataTable(file, decompress, name, 0, list_offset)

    def view_record(self, number: int) -> tuple[bytes, int]:
        """Bytes and the offset of the record in them."""
        if number >= self.count:
            raise FormatError(f"{self.name} is damaged: entry {number} is referenced, but it has only {self.count}")
        block, offset = divmod(number * self._entry_size, METADATA_SIZE)
        return self._table.view(self._block_offsets[block], offset, self._entry_size)

    def blocks(self) -> Iterator[bytes]:
        """All decompressed blocks, from first to last; all but the last are full."""
        left = self.count * self._entry_size
        for block_start in self._block_offsets:
            data, _ = self._table.block(block_start)
            if len(data) != min(left, METADATA_SIZE):
                raise self._table.damage_error(block_start, f"it has {len(data)} bytes, not {min(left, METADATA_SIZE)}")
            left -= len(data)
            yield data
