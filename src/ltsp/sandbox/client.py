"""Reads trees in a sandboxed process, from files opened here."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from ltsp.errors import FormatError, LtspError, ReaderFailed, SourceError
from ltsp.host import command
from ltsp.host.command import BackgroundProgram
from ltsp.sandbox.messages import (
    ContentRequest,
    Done,
    EnterReply,
    EnterRequest,
    FileRequest,
    Hole,
    Message,
    VolumeKey,
    decode,
    protocol_error,
)
from ltsp.sandbox.passed_files import PassedFiles
from ltsp.sandbox.protocol import (
    Frame,
    FrameKind,
    PeerClosed,
    parse_failure,
    receive_frame,
    send_failure,
    send_frame,
    send_message,
)
from ltsp.sandbox.tree_codec import FileExtents, decode_tree
from ltsp.tree.content import Content
from ltsp.tree.name import printable
from ltsp.tree.selection import Inclusion, Selection, select_all
from ltsp.tree.tree import Tree

_REPLY_TIMEOUT = 300.0
"""Seconds to wait for a frame; a process that reads a slow disk sends heartbeats."""
_MIN_MEMORY = 2 << 30
_MEMORY_DIVISOR = 2
"""The process may use 1/_SHARE of the machine's memory, and at least _MEMORY_FLOOR; address space, mostly unused."""

_MAX_WRITTEN_SIZE = 1 << 40
"""Bytes that it may write to a file."""
_WORKER = "ltsp.sandbox.worker"

ARCHIVES, DISKS = "ltsp.sandbox.archive_session", "ltsp.sandbox.disk_session"
"""Sessions: a process can have those that it was started with."""

OpenFile = Callable[[str], BinaryIO]
"""Opens a further file that the process requests. Raises LtspError to refuse it."""
FindKey = Callable[[bytes], bytes]
"""Finds the key of an encrypted volume from its header. Raises LtspError."""

_Reply = TypeVar("_Reply")


def refuse_key(_header: bytes) -> bytes:
    """For a source without a key."""
    raise SourceError("it is an encrypted volume")


def refuse_file(name: str) -> BinaryIO:
    """For a source in one file."""
    raise SourceError(f"it needs {printable(name)}")


@dataclass(slots=True)
class SandboxReader:
    """Sends requests to the process, one at a time; contents are read over separate channels, several at once."""

    control: socket.socket
    process: BackgroundProgram
    files: PassedFiles
    open_file: OpenFile = refuse_file
    find_key: FindKey = refuse_key
    idle_channels: list[socket.socket] = field(default_factory=list)
    """Channels not in use."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_running(self) -> bool:
        return self.process.status() is None

    def open(
        self,
        request: Message,
        files: Sequence[BinaryIO],
        open_file: OpenFile = refuse_file,
        find_key: FindKey = refuse_key,
    ) -> None:
        """Begin a session for these files, in place of the one before.

        Raises LtspError, whose text is safe to print.
        """
        with self.lock:
            self.open_file, self.find_key = open_file, find_key
            for file in files:
                self.files.add(file)
            self._send(FrameKind.OPEN, request, [file.fileno() for file in files])
            decode(self._receive_answer().payload, Done)

    def ask(self, request: Message, reply: type[_Reply]) -> _Reply:
        """The session's reply, of that class.

        Raises LtspError, whose text is safe to print.
        """
        with self.lock:
            self._send(FrameKind.ASK, request)
            return decode(self._receive_answer().payload, reply)

    def tree(self, request: Message, selection: Selection = select_all) -> Tree:
        """The tree that the selection includes; excluded directories are not read.

        Raises LtspError.
        """
        is_whole = selection is select_all
        with self.lock:
            self._send(FrameKind.TREE_REQUEST if is_whole else FrameKind.SELECTED_TREE_REQUEST, request)
            found = decode_tree(self._receive_batches(selection), self._make_content)
        return found if is_whole else found.select(selection)

    def _send(self, kind: FrameKind, request: Message, files: Sequence[int] = ()) -> None:
        with self._translate_errors():
            send_message(self.control, kind, request, files)

    def _make_content(self, number: int, size: int, stored: int, extents: FileExtents) -> Content:
        """Raises ValueError for invalid extents."""
        if extents:
            return self.files.content(stored, extents)
        return _SandboxedContent(self, number, size, stored)

    def _receive_batches(self, selection: Selection) -> Iterator[bytes]:
        while (frame := self._receive_answer(selection)).kind is FrameKind.TREE_RECORDS:
            yield frame.payload
        decode(frame.payload, Done)

    def _receive_answer(self, selection: Selection = select_all) -> Frame:
        """The next frame of the answer; requests of the process before it are carried out."""
        while True:
            frame = self.receive(self.control)
            match frame.kind:
                case FrameKind.ANSWER | FrameKind.TREE_RECORDS:
                    return frame
                case FrameKind.FAILURE:
                    raise parse_failure(frame)
                case FrameKind.HEARTBEAT:
                    pass
                case FrameKind.FILE_REQUEST:
                    self._send_file(decode(frame.payload, FileRequest).name)
                case FrameKind.ENTER_REQUEST:
                    paths = decode(frame.payload, EnterRequest).paths
                    is_entered = tuple(selection(path, True) is Inclusion.ALL for path in paths)
                    self._send(FrameKind.ANSWER, EnterReply(is_entered))
                case FrameKind.KEY_REQUEST:
                    self._send_key(frame.payload)
                case _:
                    raise protocol_error()

    def _send_file(self, name: str) -> None:
        try:
            with self.open_file(name) as file:
                try:
                    self.files.add(file)
                except OSError as error:
                    raise SourceError(
                        f"cannot open another file: {error.strerror}", "raise the limit: ulimit -n"
                    ) from error
                self._send(FrameKind.ANSWER, Done(), [file.fileno()])
        except ReaderFailed:
            raise
        except LtspError as error:
            self._send_failure(error)

    def _send_key(self, header: bytes) -> None:
        try:
            key = self.find_key(header)
        except LtspError as error:
            self._send_failure(error)
        else:
            self._send(FrameKind.ANSWER, VolumeKey(key))

    def _send_failure(self, error: LtspError) -> None:
        with self._translate_errors():
            send_failure(self.control, error)

    def take_channel(self) -> socket.socket:
        with self.lock:
            if self.idle_channels:
                return self.idle_channels.pop()
            local_end, remote_end = socket.socketpair()
            local_end.settimeout(_REPLY_TIMEOUT)
            with remote_end, self._translate_errors():
                send_frame(self.control, FrameKind.CHANNEL, b"", [remote_end.fileno()])
            return local_end

    def return_channel(self, channel: socket.socket) -> None:
        with self.lock:
            self.idle_channels.append(channel)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raises ReaderFailed if the process ended or does not answer."""
        try:
            yield
        except PeerClosed as error:
            raise ReaderFailed(_explain_exit(self.process)) from error
        except TimeoutError as error:
            raise ReaderFailed(
                f"its reader process has not answered for {_REPLY_TIMEOUT:.0f} seconds",
                "check the disk for read errors (dmesg), and try again",
            ) from error

    def receive(self, channel: socket.socket) -> Frame:
        with self._translate_errors():
            return receive_frame(channel)


@dataclass(frozen=True, slots=True)
class _SandboxedContent:
    reader: SandboxReader
    number: int
    size: int
    stored_size: int

    def open(self) -> _SandboxedStream:
        return _SandboxedStream(self.reader, self.number, self.size)


class _SandboxedStream:
    """One reading of a content. If it is not read to its end, its channel is unusable, and closed."""

    __slots__ = ("_at", "_channel", "_data", "_ended", "_hole", "_reader", "mtime", "size")

    def __init__(self, reader: SandboxReader, number: int, size: int) -> None:
        self._reader = reader
        self._channel = reader.take_channel()
        self._data = memoryview(b"")
        self._hole = 0
        self._at = 0
        self._ended = False
        self.mtime: int | None = None
        self.size = size
        send_message(self._channel, FrameKind.CONTENT_REQUEST, ContentRequest(number))

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size and self._fetch():
            count = min(size, len(self._data) or self._hole)
            pieces.append(bytes(self._data[:count]) if self._data else bytes(count))
            self._advance(count)
            size -= count
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        return self._hole if self._fetch() and not self._data else 0

    def skip(self, size: int) -> None:
        while size and self._fetch():
            count = min(size, len(self._data) or self._hole)
            self._advance(count)
            size -= count

    def is_consistent(self) -> bool:
        """Always: the source checks the underlying file as a whole."""
        return True

    def _advance(self, count: int) -> None:
        if self._data:
            self._data = self._data[count:]
        else:
            self._hole -= count
        self._at += count

    def _fetch(self) -> bool:
        """Whether there is more data.

        Raises FormatError if the file is shorter or longer than its size.
        """
        while not self._data and not self._hole and not self._ended:
            frame = self._reader.receive(self._channel)
            match frame.kind:
                case FrameKind.DATA:
                    self._data = memoryview(frame.payload)
                case FrameKind.HOLE:
                    self._hole = decode(frame.payload, Hole).size
                case FrameKind.END:
                    self._ended = True
                case FrameKind.FAILURE:
                    self._ended = True
                    raise parse_failure(frame)
                case _:
                    raise protocol_error()
            left = self.size - self._at
            if len(self._data) + self._hole > left or (self._ended and left):
                raise FormatError("a file in the source does not have the size recorded in its inode")
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
            self._reader.return_channel(self._channel)
        else:
            self._channel.close()


@contextmanager
def start_reader(sessions: Sequence[str], *, may_write: bool) -> Iterator[SandboxReader]:
    """Start the process, which can have these sessions, by module; it ends with the block.

    `may_write`: whether it may write to files that are passed to it.

    Raises LtspError.
    """
    local_end, remote_end = socket.socketpair()
    with ExitStack() as opened:
        opened.enter_context(local_end)
        with remote_end:
            limits = (_memory_limit(), _MAX_WRITTEN_SIZE if may_write else 0)
            # Without -P, modules in the working directory could shadow ours and run with our privileges.
            arguments = [sys.executable, "-P", "-m", _WORKER, str(remote_end.fileno()), *map(str, limits), *sessions]
            process = opened.enter_context(command.start_in_background(arguments, descriptors=[remote_end.fileno()]))
        local_end.settimeout(_REPLY_TIMEOUT)
        files = opened.enter_context(PassedFiles())
        reader = SandboxReader(local_end, process, files)
        try:
            yield reader
        finally:
            for channel in reader.idle_channels:
                channel.close()


def _memory_limit() -> int:
    return max(_MIN_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MEMORY_DIVISOR)


def _explain_exit(process: BackgroundProgram) -> str:
    status = process.status(5)
    return command.exit_error("its reader process", status or 0, process.output()).message
