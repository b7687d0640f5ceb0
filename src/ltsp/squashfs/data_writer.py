"""Store file contents in the image: read them consistently, detect duplicates, and split them into blocks.

Small files and the ends of files are packed into fragment blocks. Packing restarts at marks that depend only on paths,
so that a change in one small file affects only the blocks up to the next mark.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from time import perf_counter, sleep
from typing import Final, NamedTuple, Protocol

from ltsp.errors import FileVanished, FormatError
from ltsp.squashfs.file_table import EMPTY_CONTENT, FileTable
from ltsp.squashfs.format import BLOCK_STORED, FragmentEntry
from ltsp.squashfs.output import OutputMark
from ltsp.squashfs.workers import Workers
from ltsp.tree.content import Content, Stream
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode

_MAX_BUFFERED_SIZE: Final = 2 << 20
"""Bytes up to which a file is read whole before any of it is queued. A larger one is queued while it is read, and
undone if it turns out to have changed."""
_CHUNK_SIZE: Final = 128 << 10
"""Bytes to read and pass to a worker at a time, if blocks are not larger."""
_TAIL_DIVISOR: Final = 8
"""The end of a file with whole blocks is packed if it is at most this part of a block. docs/decisions/0011"""
_PROGRESS_INTERVAL: Final = 1 << 20
"""Bytes between two reports of progress."""
_MAX_READS: Final = 3
"""How often a changing file is read in total."""
_MAX_RETRIES: Final = 100
"""How often a read is retried at the kernel's request."""
_RETRY_DELAY: Final = 0.001
"""Seconds."""
_RETRY_ERRNOS: Final = {errno.EAGAIN, errno.EINTR}
_VANISHED_ERRNOS: Final = {errno.ENOENT, errno.ESTALE}


class Hasher(Protocol):
    """What `hashlib` gives."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class StoredFile(NamedTuple):
    """A stored file."""

    number: int
    """Number of its content in `FileTable`."""
    mtime: int | None
    """Time of the version that was read, if it differs from the scan."""


@dataclass(slots=True)
class _ContentBlocks:
    """The data blocks of one content; receives their locations."""

    file_table: FileTable
    number: int
    begin: OutputMark | None = None

    def put(self, mark: OutputMark, block_sizes: Sequence[int]) -> None:
        if self.begin is None:
            self.begin = mark
            self.file_table.begin_blocks(self.number, mark.position)
        self.file_table.add_blocks(block_sizes)


@dataclass(slots=True)
class DataWriter:
    """Stores contents one after the other. A content's location depends only on the earlier ones."""

    workers: Workers
    fragments: FragmentWriter
    file_table: FileTable
    faults: Faults
    progress: Callable[[int], None]
    shared_sizes: Collection[int]
    """Sizes, as of the scan, shared by several files."""
    block_size: int
    source_bytes: int = field(init=False, default=0)
    duplicates: int = field(init=False, default=0)
    duplicate_bytes: int = field(init=False, default=0)
    hash_seconds: float = field(init=False, default=0.0)
    _chunk_size: int = field(init=False)
    _number_by_content: dict[tuple[int, bytes], int] = field(init=False, default_factory=dict)
    """Numbers by size and sha256."""
    _large_sizes: set[int] = field(init=False, default_factory=set)
    """Sizes of the large files in `_number_by_content`."""
    _queued: _ContentBlocks | None = field(init=False, default=None)
    """The blocks of the large file that is being written."""
    _unreported: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._chunk_size = max(_CHUNK_SIZE, self.block_size)

    def add(self, path: str, content: Content) -> StoredFile | None:
        """Store a file; None if it had to be skipped, as noted in `faults`. Raises whatever `faults` raises."""
        if begins_group(path):
            self.fragments.close()
        for retries in reversed(range(_MAX_RETRIES)):
            try:
                return self._store(path, content)
            except FileVanished:
                self._undo_large()
                self.faults.note_vanished(path)
                return None
            except OSError as error:
                self._undo_large()
                if error.errno in _RETRY_ERRNOS and retries:
                    sleep(_RETRY_DELAY)
                    continue
                if error.errno in _VANISHED_ERRNOS:
                    self.faults.note_vanished(path)
                else:
                    self.faults.note_unreadable(path, error)
                return None
            except FormatError as error:
                self._undo_large()
                self.faults.note_damaged(path, error)
                return None
        raise AssertionError

    def close(self) -> None:
        """Finish: close the last fragment block, and wait until everything is written."""
        self.fragments.close()
        self.workers.drain()
        self.progress(self._unreported)
        self._unreported = 0

    def _store(self, path: str, content: Content) -> StoredFile:
        if (
            content.size > _MAX_BUFFERED_SIZE
            and content.size in self._large_sizes
            and (same := self._find_duplicate(content))
        ):
            return same
        for readings in reversed(range(_MAX_READS)):
            with content.open() as stream:
                if stream.size <= _MAX_BUFFERED_SIZE:
                    data = stream.read(stream.size) if stream.size else b""
                    settled = stream.is_consistent()
                    if settled or not readings:
                        number = self._store_small(data, content.size)
                        break
                else:
                    size, digest, end = self._queue_large(stream, content.size)
                    settled = stream.is_consistent()
                    if settled or not readings:
                        number = self._finish_large(size, digest, end)
                        break
                    self._undo_large()
        if not settled:
            self.faults.note_changed(path)
        return StoredFile(number, stream.mtime)

    def _find_duplicate(self, content: Content) -> StoredFile | None:
        """Read a large possible duplicate once to compare; None if it is not a duplicate, or was changing."""
        digest = sha256()
        size = 0
        with content.open() as stream:
            while left := stream.size - size:
                if passed := min(stream.hole_size(), left):
                    stream.skip(passed)
                    self._hash_zeros(digest, passed)
                elif piece := stream.read(min(left, _PROGRESS_INTERVAL)):
                    self._hash(digest, piece)
                    passed = len(piece)
                else:
                    break
                size += passed
            number = self._number_by_content.get((size, digest.digest()))
            if number is None or not stream.is_consistent():
                return None
        self._count_duplicate(size)
        return StoredFile(number, stream.mtime)

    def _store_small(self, data: bytes, expected: int) -> int:
        """The number of the content of a small file; `expected` is its size as of the scan."""
        size = len(data)
        if not size:
            return EMPTY_CONTENT
        key = None
        if self._may_be_shared(size, expected):
            digest = sha256()
            self._hash(digest, data)
            key = (size, digest.digest())
            number = self._number_by_content.get(key)
            if number is not None:
                self._count_duplicate(size)
                return number
        number = self.file_table.begin()
        if key is not None:
            self._number_by_content[key] = number
        if size < self.block_size:
            self.file_table.finish(number, size, *self.fragments.add(data))
        else:
            blocks = _ContentBlocks(self.file_table, number)
            whole = size - size % self.block_size
            for at in range(0, whole, self._chunk_size):
                self._submit(blocks, data[at : min(at + self._chunk_size, whole)])
            self._store_tail(blocks, size, data[whole:])
        self._report_progress(size)
        return number

    def _queue_large(self, stream: Stream, expected: int) -> tuple[int, bytes, bytes]:
        """Queue the whole blocks of a large file; return its size, its sha256 if needed, and its end."""
        self._queued = blocks = _ContentBlocks(self.file_table, self.file_table.begin())
        digest = sha256() if self._may_be_shared(stream.size, expected) else None
        left = stream.size
        end = b""
        while left:
            if holes := min(stream.hole_size(), left) // self.block_size:
                passed = holes * self.block_size
                stream.skip(passed)
                self.workers.submit_holes(blocks, holes)
                if digest is not None:
                    self._hash_zeros(digest, passed)
                left -= passed
                continue
            asked = min(left, self._chunk_size)
            piece = stream.read(asked)
            if digest is not None:
                self._hash(digest, piece)
            left -= len(piece)
            whole = len(piece) - len(piece) % self.block_size
            if whole:
                self._submit(blocks, piece[:whole])
            if whole < len(piece):
                end = piece[whole:]
            if len(piece) < asked:
                break
        return stream.size - left, digest.digest() if digest is not None else b"", end

    def _finish_large(self, size: int, digest: bytes, end: bytes) -> int:
        """The number of the large file that was queued."""
        blocks, self._queued = self._queued, None
        assert blocks is not None
        if digest:
            self._number_by_content[size, digest] = blocks.number
            self._large_sizes.add(size)
        self._store_tail(blocks, size, end)
        self._report_progress(size)
        return blocks.number

    def _undo_large(self) -> None:
        """Undo the queued blocks of a large file."""
        blocks, self._queued = self._queued, None
        if blocks is not None:
            self.workers.drain()
            if blocks.begin is not None:
                self.workers.output.rewind(blocks.begin)
                self.file_table.drop_blocks(blocks.number)

    def _submit(self, blocks: _ContentBlocks, piece: bytes) -> None:
        """Submit whole blocks."""
        size = self.block_size
        cut = (piece,) if len(piece) == size else [piece[at : at + size] for at in range(0, len(piece), size)]
        self.workers.submit(blocks, cut, len(piece), sparse=True)

    def _store_tail(self, blocks: _ContentBlocks, size: int, end: bytes) -> None:
        """The last part of a content with data blocks: a short block, or part of a fragment block.

        The end of a hole is a hole.
        """
        if end and len(end) <= self.block_size // _TAIL_DIVISOR and any(end):
            self.file_table.finish(blocks.number, size, *self.fragments.add(end))
            return
        if end:
            self.workers.submit(blocks, (end,), len(end), sparse=True)
        self.file_table.finish(blocks.number, size)

    def _may_be_shared(self, size: int, expected: int) -> bool:
        """Whether another file may have the same content: a unique size is not worth a hash."""
        return size in self.shared_sizes or size != expected

    def _hash(self, digest: Hasher, data: bytes) -> None:
        started = perf_counter()
        digest.update(data)
        self.hash_seconds += perf_counter() - started

    def _hash_zeros(self, digest: Hasher, count: int) -> None:
        for at in range(0, count, _PROGRESS_INTERVAL):
            self._hash(digest, bytes(min(count - at, _PROGRESS_INTERVAL)))

    def _count_duplicate(self, size: int) -> None:
        self.duplicates += 1
        self.duplicate_bytes += size
        self._report_progress(size)

    def _report_progress(self, size: int) -> None:
        self.source_bytes += size
        self._unreported += size
        if self._unreported >= _PROGRESS_INTERVAL:
            self.progress(self._unreported)
            self._unreported = 0


_GROUP_START_THRESHOLD = 4
"""Values of the first byte of a path's sha256 that begin a group: 4 is one path in 64. docs/decisions/0010"""


def begins_group(path: str) -> bool:
    """Whether packing restarts at the file with this path, be it large, small, empty or a duplicate."""
    return sha256(encode(path)).digest()[0] < _GROUP_START_THRESHOLD


@dataclass(slots=True)
class FragmentWriter:
    """Packs data in the order of the calls, and receives the locations of the blocks."""

    workers: Workers
    block_size: int
    _open: list[bytes] = field(init=False, default_factory=list)
    _size: int = field(init=False, default=0)
    """Bytes in the open block."""
    _closed_count: int = field(init=False, default=0)
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
        return self._closed_count, offset

    def close(self) -> None:
        """Close the open block; the next addition starts a new one."""
        if self._open:
            block = b"".join(self._open)
            self.workers.submit(self, (block,), len(block), sparse=False)
            self._open.clear()
            self._size = 0
            self._closed_count += 1

    def put(self, mark: OutputMark, block_sizes: Sequence[int]) -> None:
        self._starts.append(mark.position)
        self._words.append(block_sizes[0])

    @property
    def count(self) -> int:
        return self._closed_count

    @property
    def stored_size(self) -> int:
        """Bytes of the blocks in the image."""
        return sum(word & (BLOCK_STORED - 1) for word in self._words)

    def pack_table(self) -> bytes:
        """The table entries of all blocks, which must be closed and written."""
        pack = FragmentEntry.layout.pack
        return b"".join([pack(start, word, 0) for start, word in zip(self._starts, self._words, strict=True)])
