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

_KEPT = 16
"""Cached fragment blocks; files in one directory mostly share one. At most 16 MiB."""
_HOLE = bytes(4)
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
    _kept: OrderedDict[int, bytes | FormatError] = field(default_factory=OrderedDict)
    """Fragment blocks by index. Errors are cached too: thousands of files may end in one block."""
    _lock: Lock = field(default_factory=Lock)

    def read(self, place: int, word: int) -> bytes:
        """Decompress the block with a nonzero size word."""
        size = word & ~BLOCK_STORED
        if not 0 < size <= self.block_size or place < self.area.start or place + size > self.area.stop:
            raise self.damage_error(place, f"invalid size: {size} bytes")
        stored = self.file.read(place, size)
        if word & BLOCK_STORED:
            return stored
        try:
            return self.decompress(stored, self.block_size)
        except FormatError as error:
            raise self.damage_error(place, error.message) from error

    def damage_error(self, place: int, fault: str) -> FormatError:
        return FormatError(f"a file of {self.file.name} is damaged: block at {place}: {fault}")

    def fragment(self, index: int) -> bytes:
        """Decompress a fragment block."""
        with self._lock:
            known = self._kept.get(index)
            if known is not None:
                self._kept.move_to_end(index)
        if known is None:
            try:
                known = self._read_fragment(index)
            except FormatError as error:
                known = error
            with self._lock:
                self._kept[index] = known
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
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
    words: bytes
    """The size words of the data blocks, as stored."""
    fragment: int
    """Index of the fragment block with the end of the file, or NO_FRAGMENT."""
    offset: int
    """Offset of the end of the file in the fragment block."""

    @property
    def stored_size(self) -> int:
        holes = array("I", self.words).count(0)
        return max(0, self.size - holes * self.blocks.block_size)

    def open(self) -> AbstractContextManager[Stream]:
        return nullcontext(_FileStream(self, self.start))


@dataclass(slots=True)
class _FileStream:
    content: FileContent
    place: int
    """Offset of the next data block in the image."""
    at: int = 0
    """Bytes read or skipped."""
    unfolded: int = 0
    """Number of data blocks and fragments passed; the last one is in `data`."""
    data: bytes = b""
    hole_end: int = 0
    mtime: int | None = None

    @property
    def size(self) -> int:
        return self.content.size

    def read(self, size: int) -> bytes:
        pieces = []
        left = min(size, self.size - self.at)
        while left > 0:
            index, offset = divmod(self.at, self.content.blocks.block_size)
            data = self._read_block(index)
            piece = data if not offset and left >= len(data) else data[offset : offset + left]
            pieces.append(piece)
            left -= len(piece)
            self.at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        if self.at >= self.hole_end:
            self.hole_end = self._find_hole_end()
        return self.hole_end - self.at

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        return True

    def _find_hole_end(self) -> int:
        """The end of the run of zero blocks at the current position, or the position itself."""
        words, block_size = self.content.words, self.content.blocks.block_size
        first = self.at // block_size
        end = first
        while words[4 * end : 4 * end + 4] == _HOLE:
            end += 1
        return min(end * block_size, self.size) if end > first else self.at

    def _read_block(self, index: int) -> bytes:
        """Decompress the block with this number, to exactly the length in the file."""
        if index < self.unfolded - 1:
            raise ValueError("a stream is read from start to end")
        while self.unfolded <= index:
            self._next_block(wanted=self.unfolded == index)
        return self.data

    def _next_block(self, *, wanted: bool) -> None:
        """Advance one block; decompress it if `wanted`."""
        content, number = self.content, self.unfolded
        self.unfolded += 1
        length = min(content.blocks.block_size, content.size - number * content.blocks.block_size)
        if 4 * number == len(content.words):
            self.data = content.blocks.fragment(content.fragment)[content.offset : content.offset + length]
        else:
            word = int.from_bytes(content.words[4 * number : 4 * number + 4], "little")
            if not wanted:
                self.data = b""
            elif not word:
                self.data = bytes(length)
            else:
                self.data = content.blocks.read(self.place, word)
            self.place += word & ~BLOCK_STORED
        if wanted and len(self.data) != length:
            raise content.blocks.damage_error(self.place, f"it decompresses to {len(self.data)} bytes, not {length}")
