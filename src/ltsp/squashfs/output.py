"""The file that an image is written to: in order, in large pieces, with a way back and a check of what arrived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from deflate import crc32

from ltsp.errors import LtspError

_PIECE = 1 << 20
"""Bytes that are gathered before they are written, and read back at a time."""
_MOST_QUEUED = 8
"""Pieces that wait to be written."""


class Mark(NamedTuple):
    """A place that the output can be taken back to."""

    position: int
    crc: int


@dataclass(slots=True)
class Output:
    """Appends to `file`, seekable and raw, from offset `begin` on; what lies before is written by `seal`.

    A context: within it a thread of its own writes, since copying to the page cache takes as long as a fast codec. All
    methods belong to the thread that opened it, and each may raise what writing raised before.
    """

    file: BinaryIO
    begin: int
    _taken: int = field(init=False)
    """Place of what is pending; all before was passed on."""
    _crc: int = field(init=False, default=0)
    """Of everything from `begin` on. It finds what memory or the file system damaged on the way; sha256 would cost
    as much as a fast codec, this costs nothing."""
    _pending: bytearray = field(init=False, default_factory=bytearray)
    _queue: Queue[bytearray | None] = field(init=False, default_factory=lambda: Queue(_MOST_QUEUED))
    _error: BaseException | None = field(init=False, default=None)
    _thread: Thread = field(init=False)

    def __enter__(self) -> Self:
        self.file.seek(self.begin)
        self._taken = self.begin
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._error = self._error or error  # nothing more needs to be written
        self._queue.put(None)
        self._thread.join()

    @property
    def position(self) -> int:
        """Where the next byte will lie."""
        return self._taken + len(self._pending)

    def write(self, data: bytes | bytearray) -> None:
        self._pending += data
        self._crc = crc32(data, self._crc)
        if len(self._pending) >= _PIECE:
            self._pass_on()

    def mark(self) -> Mark:
        return Mark(self.position, self._crc)

    def rewind(self, mark: Mark) -> None:
        """Take back everything that was written since the mark."""
        self._crc = mark.crc
        if mark.position >= self._taken:
            del self._pending[mark.position - self._taken :]
        else:
            self._pending.clear()
            self._wait()
            self._taken = mark.position
            self.file.seek(mark.position)

    def seal(self, head: bytes) -> str:
        """Write what lies before `begin`, cut off what was taken back, and read everything once.

        Returns the sha256 of the file, in hexadecimal. Raises LtspError when the file holds something else than what
        was written to it.
        """
        assert len(head) <= self.begin
        self._pass_on()
        self._wait()
        self.file.truncate(self._taken)
        self.file.seek(0)
        _write_all(self.file, head)
        self.file.seek(0)
        digest = hashlib.sha256()
        crc, rest = 0, self._taken
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)
        while rest and (count := self.file.readinto(buffer)):  # type: ignore[attr-defined] # BinaryIO lacks it
            at = self._taken - rest
            digest.update(view[:count])
            if at + count > self.begin:
                crc = crc32(view[max(self.begin - at, 0) : count], crc)
            rest -= count
        if rest or crc != self._crc:
            raise LtspError("the image read back differs from what was written", "check the disk and the memory")
        return digest.hexdigest()

    def _pass_on(self) -> None:
        if self._error is not None:
            raise self._error
        self._taken += len(self._pending)
        self._queue.put(self._pending)
        self._pending = bytearray()

    def _wait(self) -> None:
        self._queue.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (data := self._queue.get()) is not None:
            if self._error is None:
                try:
                    _write_all(self.file, data)
                except BaseException as error:  # it is raised again in the other thread
                    self._error = error
            self._queue.task_done()


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    """A raw file may take less than it is given: when the disk is almost full, or a signal arrives."""
    at = file.write(data)
    while at < len(data):
        at += file.write(data[at:])
