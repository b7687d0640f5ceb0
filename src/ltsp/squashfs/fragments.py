"""Pack small files and the ends of files into fragment blocks.

Packing restarts at marks that depend only on paths, so that a change in one small file affects only the blocks up to
the next mark.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ltsp.squashfs.format import BLOCK_STORED, FragmentEntry
from ltsp.squashfs.output import OutputMark
from ltsp.squashfs.workers import Workers
from ltsp.tree.name import encode

_MARKS = 4
"""Values of the first byte of a path's sha256 that begin a group: 4 is one path in 64. docs/decisions/0010"""


def begins_group(path: str) -> bool:
    """Whether packing restarts at the file with this path, be it large, small, empty or a duplicate."""
    return sha256(encode(path)).digest()[0] < _MARKS


@dataclass(slots=True)
class FragmentWriter:
    """Packs data in the order of the calls, and receives the locations of the blocks."""

    workers: Workers
    block_size: int
    _open: list[bytes] = field(init=False, default_factory=list)
    _size: int = field(init=False, default=0)
    """Bytes in the open block."""
    _closed: int = field(init=False, default=0)
    """Number of closed blocks, and index of the open one."""
    _starts: array[int] = field(init=False, default_factory=lambda: array("Q"))
    _words: array[int] = field(init=False, default_factory=lambda: array("I"))

    def add(self, end: bytes) -> tuple[int, int]:
        """Add a nonempty end shorter than a block; return the index of its fragment block and the offset in it."""
        if self._size + len(end) > self.block_size:
            self.close()
        offset = self._size
        self._open.append(end)
        self._size += len(end)
        return self._closed, offset

    def close(self) -> None:
        """Close the open block; the next addition starts a new one."""
        if self._open:
            block = b"".join(self._open)
            self.workers.submit(self, (block,), len(block), sparse=False)
            self._open.clear()
            self._size = 0
            self._closed += 1

    def put(self, mark: OutputMark, words: Sequence[int]) -> None:
        self._starts.append(mark.position)
        self._words.append(words[0])

    @property
    def count(self) -> int:
        return self._closed

    @property
    def stored_size(self) -> int:
        """Bytes of the blocks in the image."""
        return sum(word & (BLOCK_STORED - 1) for word in self._words)

    def pack_table(self) -> bytes:
        """The table entries of all blocks, which must be closed and written."""
        pack = FragmentEntry.layout.pack
        return b"".join([pack(start, word, 0) for start, word in zip(self._starts, self._words, strict=True)])
