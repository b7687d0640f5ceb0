"""Record where file contents are in the image, in columns: a million files are a few arrays."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ltsp.squashfs.format import NO_FRAGMENT

EMPTY_CONTENT = 0
"""The number of the empty content."""


class ContentLocation(NamedTuple):
    """The location of one content."""

    size: int
    """Bytes."""
    start: int
    """Offset of the first data block in the image; 0 if there is none."""
    fragment: int
    """Index of the fragment block with the end, or NO_FRAGMENT."""
    offset: int
    sparse: int
    """Bytes in blocks of zeros."""
    block_sizes: bytes
    """The size words of the data blocks, as in an inode."""


@dataclass(slots=True)
class FileTable:
    """Numbers contents in the order in which they are begun."""

    block_size: int
    _sizes: array[int] = field(default_factory=lambda: array("Q", [0]))
    _fragments: array[int] = field(default_factory=lambda: array("I", [NO_FRAGMENT]))
    _offsets: array[int] = field(default_factory=lambda: array("I", [0]))
    _starts: array[int] = field(default_factory=lambda: array("Q", [0]))
    _first_words: array[int] = field(default_factory=lambda: array("Q", [0]))
    _words: array[int] = field(default_factory=lambda: array("I"))

    def begin(self) -> int:
        """The number of a new content."""
        self._sizes.append(0)
        self._fragments.append(NO_FRAGMENT)
        self._offsets.append(0)
        self._starts.append(0)
        self._first_words.append(0)
        return len(self._sizes) - 1

    def finish(self, number: int, size: int, fragment: int = NO_FRAGMENT, offset: int = 0) -> None:
        """Record everything about a content except its data blocks, which may still be in progress."""
        self._sizes[number] = size
        self._fragments[number] = fragment
        self._offsets[number] = offset

    def begin_blocks(self, number: int, position: int) -> None:
        """Record the offset of the first data block; all blocks of earlier contents are known."""
        self._starts[number] = position
        self._first_words[number] = len(self._words)

    def add_blocks(self, block_sizes: Sequence[int]) -> None:
        """Append size words to the content whose blocks were begun last."""
        self._words.extend(block_sizes)

    def drop_blocks(self, number: int) -> None:
        """Forget the blocks of the content whose blocks were begun last."""
        self._starts[number] = 0
        del self._words[self._first_words[number] :]

    def get(self, number: int) -> ContentLocation:
        size, fragment = self._sizes[number], self._fragments[number]
        whole, end = divmod(size, self.block_size)
        count = whole + (end > 0 and fragment == NO_FRAGMENT)
        if not count:
            return ContentLocation(size, 0, fragment, self._offsets[number], 0, b"")
        first = self._first_words[number]
        block_sizes = self._words[first : first + count]
        sparse = block_sizes.count(0) * self.block_size
        if count > whole and not block_sizes[-1]:
            sparse -= self.block_size - end
        if sys.byteorder == "big":
            block_sizes.byteswap()
        return ContentLocation(
            size, self._starts[number], fragment, self._offsets[number], sparse, block_sizes.tobytes()
        )
