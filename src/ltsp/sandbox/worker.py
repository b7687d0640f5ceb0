"""The process that reads disks, file systems and archives which somebody may have made to harm the reader.

It gets open files, gives up its rights (`ltsp.sandbox.confine`), and answers questions over a socket until that is
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
    Ended,
    Frame,
    Kind,
    failure,
    receive,
    send,
    send_failure,
    send_json,
)
from ltsp.sandbox.tree_codec import Places, records
from ltsp.storage.extents import HOLE, Extent, NotInFiles, joined
from ltsp.tree.content import Content
from ltsp.tree.selection import Entered, all_entered
from ltsp.tree.tree import Tree

_BATCH = 512
"""Records in a frame."""
_PATHS = 8192
"""In a question."""
_CODECS = ("ascii", "latin-1", "unicode_escape", "utf-16", "utf-16-le", "utf-16-be", "cp437", "cp850")
"""Of names on disks, and in messages: nobody may read the files of a Python that is root's own."""
_PIECE = 1 << 20
"""Bytes of content in a frame."""
_MOST_PLACES = 1024
"""Of a content; one in more pieces is asked for."""
_PLACES_OF_ALL = 1 << 16
_PLACES_PER_CONTENT = 4
"""Of all contents, and as many more for each. Those of a system lie in one or two on average; but files of a hostile
disk may share theirs, so that a few megabytes would name billions.
"""
_SIGN_OF_LIFE = 3.0
"""Seconds between two of them."""


OpenSibling = Callable[[str], BinaryIO]


class Session(Protocol):
    """What is read: questions and answers are JSON."""

    def look(self, question: dict[str, object]) -> object:
        """What there is. Raises LtspError."""
        ...

    def tree(self, question: dict[str, object], entered: Entered) -> Tree:
        """Directories that are not entered may be left empty. Raises LtspError."""
        ...


class Caller:
    """Whoever waits for an answer: opens other files, and has to hear something now and then."""

    def __init__(self, control: socket.socket, places: _Places) -> None:
        self._control = control
        self._places = places
        self._thread = threading.get_ident()
        self._last = monotonic()

    def __call__(self, name: str) -> BinaryIO:
        """Raises LtspError where we do not get that file."""
        send_json(self._control, Kind.SIBLING, name)
        frame = receive(self._control, 1)
        if frame.kind is Kind.FAILURE:
            raise failure(frame)
        return self._places.opened(frame)[0]

    def find_key(self, header: bytes) -> bytes:
        """The key of an encrypted volume, from what stands before its encrypted bytes. Raises LtspError."""
        send(self._control, Kind.KEY, header)
        frame = receive(self._control)
        if frame.kind is Kind.FAILURE:
            raise failure(frame)
        return bytes.fromhex(frame.json())

    def working(self) -> None:
        """Say that it goes on, from whatever does; only where a question is being answered does that matter."""
        if threading.get_ident() == self._thread and monotonic() - self._last > _SIGN_OF_LIFE:
            self._last = monotonic()
            send(self._control, Kind.WORKING)


Begin = Callable[[list[BinaryIO], Caller, dict[str, object]], Session]
"""From the open files, what asks for others beside them, and options."""


def serve(control: socket.socket, begin: Begin) -> None:
    """Answer until the other side is gone."""
    contents: list[Content] = []
    places = _Places()
    session: Session | None = None
    caller = Caller(control, places)

    def entered(paths: Sequence[str]) -> Sequence[bool]:
        answers: list[bool] = []
        for at in range(0, len(paths), _PATHS):
            send_json(control, Kind.ENTER, paths[at : at + _PATHS])
            answers += receive(control).json()
        return answers

    with suppress(Ended):
        while True:
            frame = receive(control, MOST_FILES)
            if frame.kind is Kind.CHANNEL:
                channel = socket.socket(fileno=frame.files[0])
                threading.Thread(target=_serve_contents, args=(channel, contents), daemon=True).start()
                continue
            question = frame.json()
            try:
                if session is None:
                    session = begin(places.opened(frame), caller, question)
                    send_json(control, Kind.ANSWER, None)
                elif (wanted := question.pop("tree", "")) != "":
                    tree = session.tree(question, entered if wanted == SELECTED else all_entered)
                    every = records(tree, contents, places.of)
                    for batch in _batches(every):
                        send_json(control, Kind.MORE, batch)
                    send_json(control, Kind.ANSWER, None)
                else:
                    send_json(control, Kind.ANSWER, session.look(question))
            except LtspError as error:
                send_failure(control, error)
            except MemoryError:
                send_failure(control, ReaderFailed("it asks for more memory than any sound one needs"))


def _batches(every: Iterator[object]) -> Iterator[list[object]]:
    while batch := list(itertools.islice(every, _BATCH)):
        yield batch


class _Places:
    """Where contents lie in the files that we were given, which the other side numbers as they come."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers = {HOLE: HOLE}
        """By descriptor."""
        self._left = _PLACES_OF_ALL

    def opened(self, frame: Frame) -> list[BinaryIO]:
        for number, descriptor in enumerate(frame.files, self._count):
            self._numbers[descriptor] = number
        self._count += len(frame.files)
        return [open(descriptor, "rb", buffering=0) for descriptor in frame.files]

    def of(self, content: Content) -> Places:
        """Nothing where it does not lie in them as it is, or cannot be read: that is told when it is asked for.

        Nor are there any while the contents before had too many, as even to look for them takes its time.
        """
        self._left += _PLACES_PER_CONTENT
        if self._left < _MOST_PLACES:
            return ()
        try:
            with content.open() as stream:
                extents: Callable[[], Iterator[Extent]] | None = getattr(stream, "extents", None)
                if extents is None:
                    return ()
                found = joined(self._counted(extents()), _MOST_PLACES)
                return tuple((self._numbers[file], offset, size) for file, offset, size in found)
        except (NotInFiles, LtspError):
            return ()

    def _counted(self, every: Iterator[Extent]) -> Iterator[Extent]:
        for extent in every:
            self._left -= 1
            yield extent


def _serve_contents(channel: socket.socket, contents: list[Content]) -> None:
    with channel, suppress(Ended):
        while True:
            number = receive(channel).json()
            try:
                _send_content(channel, contents[number])
            except LtspError as error:
                send_failure(channel, error)
            except OSError as error:
                send_failure(channel, FormatError(f"a file cannot be read: {error.strerror or error}"))


def _send_content(channel: socket.socket, content: Content) -> None:
    with content.open() as stream:
        at = 0
        while at < stream.size:
            if hole := min(stream.hole(), stream.size - at):
                stream.skip(hole)
                send_json(channel, Kind.HOLE, hole)
                at += hole
                continue
            data = stream.read(min(_PIECE, stream.size - at))
            if not data:
                break
            send(channel, Kind.DATA, data)
            at += len(data)
    send(channel, Kind.END)


def main(begin: Begin) -> None:
    """`argv`: the descriptor of the socket, bytes of memory, and bytes of a file that it writes."""
    descriptor, memory, file_size = map(int, sys.argv[1:])
    for name in _CODECS:
        codecs.lookup(name)
    with socket.socket(fileno=descriptor) as control:
        confine(memory, file_size)
        os.chdir("/")
        serve(control, begin)
