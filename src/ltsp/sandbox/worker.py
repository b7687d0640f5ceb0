"""The process that parses disks, file systems and archives, which may be hostile.

It receives open files, drops its privileges (`ltsp.sandbox.confine`), and answers requests over a socket until that is
closed.
"""

from __future__ import annotations

import codecs
import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import BinaryIO, Protocol

from ltsp.errors import FormatError, LtspError, ReaderFailed
from ltsp.sandbox.confine import confine
from ltsp.sandbox.protocol import (
    MOST_FILES,
    SELECTED,
    Frame,
    FrameKind,
    PeerClosed,
    parse_failure,
    receive_frame,
    send_failure,
    send_frame,
    send_json,
)
from ltsp.sandbox.tree_codec import FileExtents, encode_tree
from ltsp.storage.extents import HOLE, Extent, NotInFiles, merge_extents
from ltsp.tree.content import Content
from ltsp.tree.selection import DirectoryFilter, enter_all
from ltsp.tree.tree import Tree

_BATCH = 512
"""Records per frame."""
_MOST_PATHS = 8192
"""Paths per request."""
_CODECS = ("ascii", "latin-1", "unicode_escape", "utf-16", "utf-16-le", "utf-16-be", "cp437", "cp850")
"""Codecs for names on disks and in messages, loaded in advance: later Python's files may be unreadable."""
_PIECE = 1 << 20
"""Bytes of content per frame."""
_MOST_EXTENTS = 1024
"""Extents of one content; one with more has to be requested."""
_EXTENTS_OF_ALL = 1 << 16
_EXTENTS_PER_CONTENT = 4
"""Extents of all contents, plus this many for each. Files of a system have one or two on average, but those of a
hostile disk may share extents, so that a few megabytes could list billions.
"""
_SIGN_OF_LIFE = 3.0
"""Seconds between heartbeats."""


OpenSibling = Callable[[str], BinaryIO]


class Session(Protocol):
    """Answers requests about a source; requests and answers are JSON."""

    def query(self, question: dict[str, object]) -> object:
        """The reply to a query. Raises LtspError."""
        ...

    def tree(self, question: dict[str, object], entered: DirectoryFilter) -> Tree:
        """Directories that are not entered may be left empty. Raises LtspError."""
        ...


class Caller:
    """The other side: opens further files on request, and expects heartbeats."""

    def __init__(self, control: socket.socket, locator: _ContentLocator) -> None:
        self._control = control
        self._locator = locator
        self._thread = threading.get_ident()
        self._last = monotonic()

    def __call__(self, name: str) -> BinaryIO:
        """Request a file by name. Raises LtspError if it is refused."""
        send_json(self._control, FrameKind.SIBLING, name)
        frame = receive_frame(self._control, 1)
        if frame.kind is FrameKind.FAILURE:
            raise parse_failure(frame)
        return self._locator.add_files(frame)[0]

    def find_key(self, header: bytes) -> bytes:
        """The key of an encrypted volume, from its header. Raises LtspError."""
        send_frame(self._control, FrameKind.KEY, header)
        frame = receive_frame(self._control)
        if frame.kind is FrameKind.FAILURE:
            raise parse_failure(frame)
        return bytes.fromhex(frame.json())

    def working(self) -> None:
        """Send a heartbeat if one is due; does nothing in threads that serve contents."""
        if threading.get_ident() == self._thread and monotonic() - self._last > _SIGN_OF_LIFE:
            self._last = monotonic()
            send_frame(self._control, FrameKind.WORKING)


Begin = Callable[[list[BinaryIO], Caller, dict[str, object]], Session]
"""Starts a session with open files, the other side to request more from, and options."""


def serve(control: socket.socket, begin: Begin) -> None:
    """Answer requests until the other side closes the socket."""
    contents: list[Content] = []
    locator = _ContentLocator()
    session: Session | None = None
    caller = Caller(control, locator)

    def entered(paths: Sequence[str]) -> Sequence[bool]:
        answers: list[bool] = []
        for at in range(0, len(paths), _MOST_PATHS):
            send_json(control, FrameKind.ENTER, paths[at : at + _MOST_PATHS])
            answers += receive_frame(control).json()
        return answers

    with suppress(PeerClosed):
        while True:
            frame = receive_frame(control, MOST_FILES)
            if frame.kind is FrameKind.CHANNEL:
                channel = socket.socket(fileno=frame.files[0])
                threading.Thread(target=_serve_contents, args=(channel, contents), daemon=True).start()
                continue
            question = frame.json()
            try:
                if session is None:
                    session = begin(locator.add_files(frame), caller, question)
                    send_json(control, FrameKind.ANSWER, None)
                elif (wanted := question.pop("tree", "")) != "":
                    tree = session.tree(question, entered if wanted == SELECTED else enter_all)
                    every = encode_tree(tree, contents, locator.locate)
                    for batch in _batches(every):
                        send_json(control, FrameKind.MORE, batch)
                    send_json(control, FrameKind.ANSWER, None)
                else:
                    send_json(control, FrameKind.ANSWER, session.query(question))
            except LtspError as error:
                send_failure(control, error)
            except MemoryError:
                send_failure(control, ReaderFailed("it needs more memory than any valid one"))


def _batches(every: Iterator[object]) -> Iterator[list[object]]:
    while batch := list(itertools.islice(every, _BATCH)):
        yield batch


class _ContentLocator:
    """Finds the extents of contents in the files passed to this process, which both sides number in order."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers = {HOLE: HOLE}
        """By descriptor."""
        self._extents_left = _EXTENTS_OF_ALL

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
        if self._extents_left < _MOST_EXTENTS:
            return ()
        try:
            with content.open() as stream:
                extents: Callable[[], Iterator[Extent]] | None = getattr(stream, "extents", None)
                if extents is None:
                    return ()
                found = merge_extents(self._count_extents(extents()), _MOST_EXTENTS)
                return tuple((self._numbers[file], offset, size) for file, offset, size in found)
        except (NotInFiles, LtspError):
            return ()

    def _count_extents(self, every: Iterator[Extent]) -> Iterator[Extent]:
        for extent in every:
            self._extents_left -= 1
            yield extent


def _serve_contents(channel: socket.socket, contents: list[Content]) -> None:
    with channel, suppress(PeerClosed):
        while True:
            number = receive_frame(channel).json()
            try:
                _send_content(channel, contents[number])
            except LtspError as error:
                send_failure(channel, error)
            except OSError as error:
                send_failure(channel, FormatError(f"cannot read a file: {error.strerror or error}"))


def _send_content(channel: socket.socket, content: Content) -> None:
    with content.open() as stream:
        at = 0
        while at < stream.size:
            if hole := min(stream.hole_size(), stream.size - at):
                stream.skip(hole)
                send_json(channel, FrameKind.HOLE, hole)
                at += hole
                continue
            data = stream.read(min(_PIECE, stream.size - at))
            if not data:
                break
            send_frame(channel, FrameKind.DATA, data)
            at += len(data)
    send_frame(channel, FrameKind.END)


def main(begin: Begin) -> None:
    """`argv`: the descriptor of the socket, and the limits in bytes on memory and on files that it writes."""
    descriptor, memory, file_size = map(int, sys.argv[1:])
    for name in _CODECS:
        codecs.lookup(name)
    with socket.socket(fileno=descriptor) as control:
        confine(memory, file_size)
        os.chdir("/")
        serve(control, begin)
