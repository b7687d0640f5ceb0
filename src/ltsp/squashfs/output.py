"""Write an image file sequentially in large pieces, with rewinding and a final check of the written data."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from deflate import crc32

from ltsp.errors import LtspError
from ltsp.host import files

_CHUNK_SIZE = 1 << 20
"""Bytes to collect before writing, and to read back at a time."""
_MAX_PARTS = 512
"""Parts of a piece; Linux accepts 1024 in one call. writev(2), IOV_MAX"""
_MAX_QUEUED_WRITES = 8
"""Pieces waiting to be written."""
_WRITEBACK_INTERVAL = 8 << 20
"""Bytes after which writeback is started, so that little is left for the final fsync."""

Part = bytes | bytearray


class OutputMark(NamedTuple):
    """A position to which the output can be rewound."""

    position: int
    crc: int


@dataclass(frozen=True, slots=True)
class SealedImage:
    """A finished image file and its checksum."""

    size: int
    """Bytes."""
    start_offset: int
    crc: int
    """Checksum of everything from `start_offset` on. It detects damage by memory or the file system; a sha256
    of the written data would cost as much as a fast codec, this costs nothing."""

    def read_back(self, descriptor: int) -> str:
        """The sha256 of the file, in hexadecimal, with pread(2), which leaves its position alone.

        Raises LtspError if the file differs from the data written to it.
        """
        digest = hashlib.sha256()
        at = crc = 0
        while piece := os.pread(descriptor, _CHUNK_SIZE, at):
            digest.update(piece)
            crc = crc32(memoryview(piece)[max(self.start_offset - at, 0) :], crc)
            at += len(piece)
        if at != self.size or crc != self.crc:
            raise LtspError(
                "the image read back differs from what was written", "check the disk and memory of this machine"
            )
        return digest.hexdigest()


@dataclass(slots=True)
class ImageOutput:
    """Appends to `file`, seekable and raw, from offset `start_offset` on; the bytes before that are written by `seal`.

    A context manager: a separate thread writes, since copying to the page cache takes as long as a fast codec. All
    methods must be called by the thread that opened it, and may raise earlier write errors.
    """

    file: BinaryIO
    start_offset: int
    _descriptor: int = field(init=False)
    position: int = field(init=False)
    """Offset of the next byte."""
    _crc: int = field(init=False, default=0)
    """Of everything from `start_offset` on."""
    _pending_position: int = field(init=False)
    """Offset of the pending data; everything before was handed to the writer."""
    _pending: list[Part] = field(init=False, default_factory=list)
    _queue: Queue[tuple[int, list[Part]] | None] = field(init=False, default_factory=lambda: Queue(_MAX_QUEUED_WRITES))
    """Pieces and their offsets."""
    _error: BaseException | None = field(init=False, default=None)
    _thread: Thread = field(init=False)

    def __enter__(self) -> Self:
        self._descriptor = self.file.fileno()
        self.position = self._pending_position = self.start_offset
        self._thread = Thread(target=self._write_queued, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._error = self._error or error  # nothing more needs to be written
        self._queue.put(None)
        self._thread.join()

    def write(self, data: Part) -> None:
        """Append data, which must not change afterwards."""
        self._pending.append(data)
        self._crc = crc32(data, self._crc)
        self.position += len(data)
        if self.position - self._pending_position >= _CHUNK_SIZE or len(self._pending) == _MAX_PARTS:
            self._queue_pending()

    def mark(self) -> OutputMark:
        return OutputMark(self.position, self._crc)

    def rewind(self, mark: OutputMark) -> None:
        """Undo all writes since the mark."""
        if mark.position < self._pending_position:
            self._pending.clear()
            self._wait_for_writes()
            self._pending_position = mark.position
        else:
            kept = b"".join(self._pending)[: mark.position - self._pending_position]
            self._pending = [kept] if kept else []
        self.position, self._crc = mark

    def seal(self, head: bytes) -> SealedImage:
        """Write the bytes before `start_offset`, and truncate rewound data."""
        assert len(head) <= self.start_offset
        self._queue_pending()
        self._wait_for_writes()
        os.ftruncate(self._descriptor, self.position)
        _write_all(self._descriptor, [head], 0)
        return SealedImage(self.position, self.start_offset, self._crc)

    def _queue_pending(self) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put((self._pending_position, self._pending))
        self._pending_position = self.position
        self._pending = []

    def _wait_for_writes(self) -> None:
        self._queue.join()
        if self._error is not None:
            raise self._error

    def _write_queued(self) -> None:
        flushed = self.start_offset
        while (piece := self._queue.get()) is not None:
            if self._error is None:
                try:
                    end = _write_all(self._descriptor, piece[1], piece[0])
                    if end - flushed >= _WRITEBACK_INTERVAL:
                        files.start_writeback(self._descriptor, flushed, end - flushed)
                        flushed = end
                except BaseException as error:  # raised again in the other thread
                    self._error = error
            self._queue.task_done()


def _write_all(descriptor: int, parts: list[Part], at: int) -> int:
    """Write the parts one after the other; return the end offset."""
    end = at + sum(map(len, parts))
    at += os.pwritev(descriptor, parts, at)
    if at < end:  # the disk is almost full, or a signal arrived
        rest = memoryview(b"".join(parts))
        while at < end:
            at += os.pwrite(descriptor, rest[at - end :], at)
    return end
