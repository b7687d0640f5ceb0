"""Read file contents of an image on demand, block by block."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Lock

from ltsp.errors import FormatError
from ltsp.squashfs.format import BLOCK_STORED, FragmentEntry
from ltsp.squashfs.meta_reader import Decompress, ImageFile, LookupTable
from ltsp.tree.content import Stream

_CACHED_FRAGMENTS = 16
"""Cached fragment blocks; files in one directory mostly share one. At most 16 MiB."""
_HOLE_WORD = bytes(4)
"""The size word of a block of zeros that is not stored."""


@dataclass(slots=True)
class DataReader:
    """The data and fragment blocks of one image. Several threads may read at once."""

    file: ImageFile
    decompress: Decompress
    block_size: int
    """Bytes."""
    area: range
    """The range of the image that may contain blocks."""
    fragments: LookupTable | None
    _cache: OrderedDict[int, bytes | FormatError] = field(default_factory=OrderedDict)
    """Fragment blocks by index. Errors are cached too: thousands of files may end in one block."""
    _lock: Lock = field(default_factory=Lock)

    def read(self, offset: int, word: int) -> bytes:
        """Decompress the block with a nonzero size word."""
        size = word & ~BLOCK_STORED
        if not 0 < size <= self.block_size or offset < self.area.start or offset + size > self.area.stop:
            raise self.damage_error(offset, f"invalid size: {size} bytes")
        stored = self.file.read(offset, size)
        if word & BLOCK_STORED:
            return stored
        try:
            return self.decompress(stored, self.block_size)
        except FormatError as error:
            raise self.damage_error(offset, error.message) from error

    def damage_error(self, offset: int, fault: str) -> FormatError:
        return FormatError(f"a file of {self.file.name} is damaged: block at {offset}: {fault}")

    def fragment(self, index: int) -> bytes:
        """Decompress a fragment block."""
        with self._lock:
            known = self._cache.get(index)
            if known is not None:
                self._cache.move_to_end(index)
        if known is None:
            try:
                known = self._read_fragment(index)
            except FormatError as error:
                known = error
            with self._lock:
                self._cache[index] = known
                if len(self._cache) > _CACHED_FRAGMENTS:
                    self._cache.popitem(last=False)
        if isinstance(known, FormatError):
            raise FormatError(known.message)
        return known

    def _read_fragment(self, index: int) -> bytes:
        if self.fragments is None:
            raise self.damage_error(0, "its end is in a fragment block, but the image has none")
        entry = FragmentEntry.unpack(*self.fragments.view_record(index))
        return self.read(entry.start, entry.stored)


@dataclass(frozen=True, slots=True, eq=False)
class FileContent:
    """A regular file of an image, as its inode describes it."""

    blocks: DataReader
    size: int
    start: int
    """Place of the first data block in the image."""
    block_sizes: bytes
    """The size words of the data blocks, as stored."""
    fragment: int
    """Index of the fragment block with the end of the file, or NO_FRAGMENT."""
    offset: int
    """Offset of the end of the file in the fragment block."""

    @property
    def stored_size(self) -> int:
        holes = array("I", self.block_sizes).count(0)
        return max(0, self.size - holes * self.blocks.block_size)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_FileStream(self, self.start))


@dataclass(slots=True)
class _FileStream:
    content: FileContent
    position_in_image: int
    """Offset of the next data block in the image."""
    position: int = 0
    """Bytes read or skipped."""
    blocks_passed: int = 0
    """Number of data blocks and fragments passed; the last one is in `data`."""
    data: bytes = b""
    hole_end: int = 0
    mtime: int | None = None

    @property
    def size(self) -> int:
        return self.content.size

    def read(self, size: int) -> bytes:
        pieces = []
        left = min(size, self.size - self.position)
        while left > 0:
            index, offset = divmod(self.position, self.content.blocks.block_size)
            data = self._read_block(index)
            piece = data if not offset and left >= len(data) else data[offset : offset + left]
            pieces.append(piece)
            left -= len(piece)
            self.position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        if self.position >= self.hole_end:
            self.hole_end = self._find_hole_end()
        return self.hole_end - self.position

    def skip(self, size: int) -> None:
        self.position += size

    def is_consistent(self) -> bool:
        return True

    def _find_hole_end(self) -> int:
        """The end of the run of zero blocks at the current position, or the position itself."""
        block_sizes, block_size = self.content.block_sizes, self.content.blocks.block_size
        first = self.position // block_size
        end = first
        while block_sizes[4 * end : 4 * end + 4] == _HOLE_WORD:
            end += 1
        return min(end * block_size, self.size) if end > first else self.position

    def _read_block(self, index: int) -> bytes:
        """Decompress the block with this number, to exactly the length in the file."""
        if index < self.blocks_passed - 1:
            raise ValueError("a stream is read from start to end")
        while self.blocks_passed <= index:
            self._next_block(wanted=self.blocks_passed == index)
        return self.data

    def _next_block(self, *, wanted: bool) -> None:
        """Advance one block; decompress it if `wanted`."""
        content, number = self.content, self.blocks_passed
        self.blocks_passed += 1
        length = min(content.blocks.block_size, content.size - number * content.blocks.block_size)
        if 4 * number == len(content.block_sizes):
            self.data = content.blocks.fragment(content.fragment)[content.offset : content.offset + length]
        else:
            word = int.from_bytes(content.block_sizes[4 * number : 4 * number + 4], "little")
            if not wanted:
                self.data = b""
            elif not word:
                self.data = bytes(length)
            else:
                self.data = content.blocks.read(self.position_in_image, word)
            self.position_in_image += word & ~BLOCK_STORED
        if wanted and len(self.data) != length:
            raise content.blocks.damage_error(
                self.position_in_image, f"it decompresses to {len(self.data)} bytes, not {length}"
            )
