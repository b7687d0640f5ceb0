"""The file that an image is written to: in order, in large pieces, with a way back and a check of what arrived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from deflate import crc32

from ltsp.errors import LtspError

_PIECE = 1 << 20
"""Bytes that are gathered before they are written, and read back at a time."""


class Mark(NamedTuple):
    """A place that the output can be taken back to."""

    position: int
    crc: int


@dataclass(slots=True)
class Output:
    """Appends to `file`, seekable and raw, from offset `begin` on; what lies before is written by `seal`."""

    file: BinaryIO
    begin: int
    _written: int = field(init=False)
    _crc: int = field(init=False, default=0)
    """Of everything from `begin` on. It finds what memory or the file system damaged on the way; sha256 would cost
    as much as a fast codec, this costs nothing."""
    _pending: bytearray = field(init=False, default_factory=bytearray)

    def __post_init__(self) -> None:
        self.file.seek(self.begin)
        self._written = self.begin

    @property
    def position(self) -> int:
        """Where the next byte will lie."""
        return self._written + len(self._pending)

    def write(self, data: bytes | bytearray) -> None:
        self._pending += data
        self._crc = crc32(data, self._crc)
        if len(self._pending) >= _PIECE:
            self._flush()

    def mark(self) -> Mark:
        return Mark(self.position, self._crc)

    def rewind(self, mark: Mark) -> None:
        """Take back everything that was written since the mark."""
        self._crc = mark.crc
        if mark.position >= self._written:
            del self._pending[mark.position - self._written :]
        else:
            self._pending.clear()
            self._written = mark.position
            self.file.seek(mark.position)

    def seal(self, head: bytes) -> str:
        """Write what lies before `begin`, cut off what was taken back, and read everything once.

        Returns the sha256 of the file, in hexadecimal. Raises LtspError when the file holds something else than what
        was written to it.
        """
        assert len(head) <= self.begin
        self._flush()
        self.file.truncate(self._written)
        self.file.seek(0)
        _write_all(self.file, head)
        self.file.seek(0)
        digest = hashlib.sha256()
        crc, rest = 0, self._written
        buffer = bytearray(_PIECE)
        view = memoryview(buffer)
        while rest and (count := self.file.readinto(buffer)):  # type: ignore[attr-defined] # BinaryIO lacks it
            at = self._written - rest
            digest.update(view[:count])
            if at + count > self.begin:
                crc = crc32(view[max(self.begin - at, 0) : count], crc)
            rest -= count
        if rest or crc != self._crc:
            raise LtspError("the image read back differs from what was written", "check the disk and the memory")
        return digest.hexdigest()

    def _flush(self) -> None:
        _write_all(self.file, self._pending)
        self._written += len(self._pending)
        self._pending.clear()


def _write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    """A raw file may take less than it is given: when the disk is almost full, or a signal arrives."""
    at = file.write(data)
    while at < len(data):
        at += file.write(data[at:])
