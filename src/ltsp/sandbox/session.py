"""What a session of the sandboxed process is: the part of it that knows one kind of source."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import BinaryIO, Protocol

from ltsp.errors import LtspError
from ltsp.sandbox.messages import FileRequest, Message, VolumeKey, decode
from ltsp.sandbox.protocol import Frame, FrameKind, parse_failure, receive_frame, send_frame, send_message
from ltsp.sandbox.tree_codec import FileExtents
from ltsp.storage.extents import HOLE, ExtentStream, FileRange, NotInFiles, find_file_ranges, join_ranges
from ltsp.tree.content import Content
from ltsp.tree.selection import DirectoryFilter
from ltsp.tree.tree import Tree

_MAX_EXTENTS = 1024
"""Extents of one content; one with more has to be requested."""
_BASE_EXTENT_BUDGET = 1 << 16
_EXTENTS_PER_CONTENT = 4
"""Extents of all contents, plus this many for each. Files of a system have one or two on average, but those of a
hostile disk may share extents, so that a few megabytes could list billions.
"""
_HEARTBEAT_INTERVAL = 3.0
"""Seconds between heartbeats."""


class Session(Protocol):
    """Answers requests about a source."""

    def answer(self, request: Message) -> Message:
        """Raises LtspError."""
        ...

    def tree(self, request: Message, entered: DirectoryFilter) -> Tree:
        """Directories that are not entered may be left empty. Raises LtspError."""
        ...


class Caller:
    """The other side: opens further files on request, and expects heartbeats."""

    def __init__(self, control: socket.socket, locator: ContentLocator) -> None:
        self._control = control
        self._locator = locator
        self._thread = threading.get_ident()
        self._last = monotonic()

    def __call__(self, name: str) -> BinaryIO:
        """Request a file by name. Raises LtspError if it is refused."""
        send_message(self._control, FrameKind.FILE_REQUEST, FileRequest(name))
        return self._locator.add_files(self._receive(1))[0]

    def find_key(self, header: bytes) -> bytes:
        """The key of an encrypted volume, from its header. Raises LtspError."""
        send_frame(self._control, FrameKind.KEY_REQUEST, header)
        return decode(self._receive().payload, VolumeKey).key

    def _receive(self, files: int = 0) -> Frame:
        frame = receive_frame(self._control, files)
        if frame.kind is FrameKind.FAILURE:
            raise parse_failure(frame)
        return frame

    def heartbeat(self) -> None:
        """Send a heartbeat if one is due; does nothing in threads that serve contents."""
        if threading.get_ident() == self._thread and monotonic() - self._last > _HEARTBEAT_INTERVAL:
            self._last = monotonic()
            send_frame(self._control, FrameKind.HEARTBEAT)


@dataclass(frozen=True, slots=True)
class SessionKind:
    """What a session module offers, as `SESSION`."""

    request: type
    """The message that begins a session."""
    begin: Callable[[Message, list[BinaryIO], Caller], Session]
    """With that message, the open files of the source, and the other side to request more from. Raises LtspError."""
    requests: tuple[type, ...]
    """The messages that a session answers, with a message or a tree."""


class ContentLocator:
    """Finds the extents of contents in the files passed to this process, which both sides number in order."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers = {HOLE: HOLE}
        """By descriptor."""
        self._extents_left = _BASE_EXTENT_BUDGET

    def add_files(self, frame: Frame) -> list[BinaryIO]:
        for number, descriptor in enumerate(frame.files, self._count):
            self._numbers[descriptor] = number
        self._count += len(frame.files)
        return [open(descriptor, "rb", buffering=0) for descriptor in frame.files]

    def locate(self, content: Content) -> FileExtents:
        """The extents; empty if it is not stored verbatim in the files, or cannot be read (reported on request).

        Also empty while earlier contents had too many extents, since even listing them takes time.
        """
        self._extents_left += _EXTENTS_PER_CONTENT
        if self._extents_left < _MAX_EXTENTS:
            return ()
        try:
            with content.open() as stream:
                if not isinstance(stream, ExtentStream):
                    return ()
                ranges = find_file_ranges(stream.blocks, 0, stream.size)
                found = join_ranges(self._count_ranges(ranges), _MAX_EXTENTS)
                return tuple((self._numbers[file], offset, size) for file, offset, size in found)
        except (NotInFiles, LtspError):
            return ()

    def _count_ranges(self, ranges: Iterator[FileRange]) -> Iterator[FileRange]:
        for each in ranges:
            self._extents_left -= 1
            yield each
