"""Trees that another process reads for us, from files that we have opened for it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import FormatError, LtspError, ReaderFailed, SourceError
from ltsp.host import command
from ltsp.host.command import Serving
from ltsp.sandbox.passed_files import GivenFiles
from ltsp.sandbox.protocol import SELECTED, Ended, Frame, Kind, failure, receive, send_failure, send_json
from ltsp.sandbox.tree_codec import Places, Record, tree
from ltsp.tree.content import Content
from ltsp.tree.selection import Selection, Take, everything
from ltsp.tree.tree import Tree

_PATIENCE = 300.0
"""Seconds without a word from the reader; a disk that is slow answers something now and then."""
_MEMORY_FLOOR = 2 << 30
_SHARE = 2
"""It may have memory of 1/_SHARE of the machine's, and _MEMORY_FLOOR at least: address space, most of it never used."""

_MOST_UNPACKED = 1 << 40

OpenSibling = Callable[[str], BinaryIO]
FindKey = Callable[[bytes], bytes]
"""The key of an encrypted volume, from what stands before its encrypted bytes. Raises LtspError."""


def no_key(_header: bytes) -> bytes:
    """Of one who has none."""
    raise SourceError("it is an encrypted volume")


@dataclass(slots=True)
class Reader:
    """Questions to the process, one at a time; contents come over channels of their own, several at once."""

    control: socket.socket
    open_sibling: OpenSibling
    ended: Callable[[], str]
    """Why the process is gone."""
    files: GivenFiles
    find_key: FindKey = no_key
    idle: list[socket.socket] = field(default_factory=list)
    """Channels that nobody reads from just now."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, question: dict[str, object]) -> object:
        """What there is, as the session in the process says it.

        Raises LtspError, of which the text is safe to print.
        """
        with self.lock:
            send_json(self.control, Kind.ASK, question)
            return self._answer().json()

    def tree(self, question: dict[str, object], selection: Selection = everything) -> Tree:
        """What the selection leaves out is not there, and as far as it is in directories, it is not read.

        Raises LtspError.
        """
        wanted = "whole" if selection is everything else SELECTED
        with self.lock:
            send_json(self.control, Kind.ASK, {**question, "tree": wanted})
            found = tree(self._records(selection), self._content)
        return found if selection is everything else found.select(selection)

    def _content(self, number: int, size: int, stored: int, places: Places) -> Content:
        """Raises ValueError where the places are none."""
        if places:
            return self.files.content(stored, places)
        return _Content(self, number, size, stored)

    def _records(self, selection: Selection) -> Iterator[Record]:
        while (frame := self._answer(selection)).kind is Kind.MORE:
            match frame.json():
                case list(batch):
                    yield from batch
                case _:
                    raise ReaderFailed("what the reader of the source sent is no tree")

    def _answer(self, selection: Selection = everything) -> Frame:
        while True:
            with self._told():
                frame = receive(self.control)
            match frame.kind:
                case Kind.SIBLING:
                    self._send_sibling(str(frame.json()))
                case Kind.ENTER:
                    send_json(self.control, Kind.ANSWER, [selection(path, True) is Take.ALL for path in _paths(frame)])
                case Kind.WORKING:
                    pass
                case Kind.KEY:
                    self._send_key(frame.payload)
                case Kind.FAILURE:
                    raise failure(frame)
                case _:
                    return frame

    def _send_sibling(self, name: str) -> None:
        try:
            with self.open_sibling(name) as file:
                try:
                    self.files.add(file)
                except OSError as error:
                    raise SourceError(f"needs more open files than may be here: {error.strerror}") from error
                send_json(self.control, Kind.ANSWER, None, [file.fileno()])
        except LtspError as error:
            send_failure(self.control, error)

    def _send_key(self, header: bytes) -> None:
        try:
            send_json(self.control, Kind.ANSWER, self.find_key(header).hex())
        except LtspError as error:
            send_failure(self.control, error)

    def channel(self) -> socket.socket:
        with self.lock:
            if self.idle:
                return self.idle.pop()
            ours, theirs = socket.socketpair()
            ours.settimeout(_PATIENCE)
            with theirs, self._told():
                send_json(self.control, Kind.CHANNEL, None, [theirs.fileno()])
            return ours

    def give_back(self, channel: socket.socket) -> None:
        with self.lock:
            self.idle.append(channel)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raises ReaderFailed where the process is gone or says nothing any more."""
        try:
            yield
        except Ended as error:
            raise ReaderFailed(self.ended()) from error
        except TimeoutError as error:
            raise ReaderFailed(f"its reader has said nothing for {_PATIENCE:.0f} seconds") from error

    def receive(self, channel: socket.socket) -> Frame:
        with self._told():
            return receive(channel)


@dataclass(frozen=True, slots=True)
class _Content:
    reader: Reader
    number: int
    size: int
    stored: int

    def open(self) -> _Stream:
        return _Stream(self.reader, self.number, self.size)


class _Stream:
    """One reading of a content. What was not fetched to its end leaves its channel unusable, and that is closed."""

    __slots__ = ("_at", "_channel", "_data", "_ended", "_hole", "_reader", "mtime", "size")

    def __init__(self, reader: Reader, number: int, size: int) -> None:
        self._reader = reader
        self._channel = reader.channel()
        self._data = memoryview(b"")
        self._hole = 0
        self._at = 0
        self._ended = False
        self.mtime: int | None = None
        self.size = size
        send_json(self._channel, Kind.CONTENT, number)

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size and self._fetch():
            count = min(size, len(self._data) or self._hole)
            pieces.append(bytes(self._data[:count]) if self._data else bytes(count))
            self._pass(count)
            size -= count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole(self) -> int:
        return self._hole if self._fetch() and not self._data else 0

    def skip(self, size: int) -> None:
        while size and self._fetch():
            count = min(size, len(self._data) or self._hole)
            self._pass(count)
            size -= count

    def settled(self) -> bool:
        """The file that is read is watched as a whole, by the source."""
        return True

    def _pass(self, count: int) -> None:
        if self._data:
            self._data = self._data[count:]
        else:
            self._hole -= count
        self._at += count

    def _fetch(self) -> bool:
        """Whether there is more.

        Raises FormatError where the file is shorter or longer than its size.
        """
        while not self._data and not self._hole and not self._ended:
            frame = self._reader.receive(self._channel)
            match frame.kind:
                case Kind.DATA:
                    self._data = memoryview(frame.payload)
                case Kind.HOLE:
                    self._hole = _length(frame.json())
                case Kind.END:
                    self._ended = True
                case Kind.FAILURE:
                    self._ended = True
                    raise failure(frame)
                case _:
                    raise ReaderFailed("the reader of the source broke off in the middle")
            left = self.size - self._at
            if len(self._data) + self._hole > left or (self._ended and left):
                raise FormatError("a file in the source has not the size that its inode says")
        return not self._ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and error is None and self._at == self.size and not self._data and not self._hole:
            with suppress(LtspError):
                self._fetch()
        if self._ended:
            self._reader.give_back(self._channel)
        else:
            self._channel.close()


def _paths(frame: Frame) -> list[str]:
    match frame.json():
        case list(paths) if all(isinstance(path, str) for path in paths):
            return paths
        case _:
            raise FormatError("the reader of the source broke off in the middle")


def _length(value: object) -> int:
    if type(value) is not int or value <= 0:
        raise ReaderFailed("the reader of the source broke off in the middle")
    return value


@contextmanager
def reading(
    module: str,
    files: Sequence[BinaryIO],
    open_sibling: OpenSibling,
    options: dict[str, object],
    *,
    unpacks: bool = False,
    find_key: FindKey = no_key,
) -> Iterator[Reader]:
    """Start the process, a module that calls `reader_child.main`, with these files; it ends with the block.

    `unpacks`: whether it may write to a file that it is given.

    Raises LtspError.
    """
    ours, theirs = socket.socketpair()
    with ExitStack() as opened:
        opened.enter_context(ours)
        with theirs:
            limits = (_memory(), _MOST_UNPACKED if unpacks else 0)
            # Without -P, modules of the working directory would be taken for ours, and run with our rights.
            arguments = [sys.executable, "-P", "-m", module, str(theirs.fileno()), *map(str, limits)]
            process = opened.enter_context(command.serving(arguments, descriptors=[theirs.fileno()]))
        ours.settimeout(_PATIENCE)
        given = opened.enter_context(GivenFiles())
        for file in files:
            given.add(file)
        reader = Reader(ours, open_sibling, lambda: _why(process), given, find_key)
        with reader.lock:
            with reader._told():  # noqa: SLF001 -- of this module
                send_json(ours, Kind.ASK, options, [file.fileno() for file in files])
            reader._answer()  # noqa: SLF001 -- likewise
        try:
            yield reader
        finally:
            for channel in reader.idle:
                channel.close()


def _memory() -> int:
    return max(_MEMORY_FLOOR, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _SHARE)


def _why(process: Serving) -> str:
    status = process.status(5)
    return f"its reader ended: {command.failure('the reader', status or 0, process.output()).message}"
