"""The protocol with the sandboxed process: frames over a socket, some with open files."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ltsp.errors import FileChanged, FileUnreadable, FormatError, LockHeld, LtspError, ReaderFailed, SourceError
from ltsp.tree.name import printable

_HEAD = struct.Struct("<cQ")
_MOST = 1 << 30
"""Limit on the size of a frame in bytes: enough for a directory of about ten million entries."""
MOST_FILES = 64
"""Per frame."""
SELECTED = "selected"
"""Requests a tree of which some directories are not to be read."""
_ERRORS: dict[str, type[LtspError]] = {
    each.__name__: each
    for each in (LtspError, LockHeld, FormatError, ReaderFailed, SourceError, FileUnreadable, FileChanged)
}


class FrameKind(Enum):
    """The type of a frame."""

    ASK = b"?"
    """A request, as JSON."""
    ANSWER = b"!"
    """JSON; the last frame of an answer."""
    MORE = b"+"
    """JSON; the answer continues."""
    FAILURE = b"-"
    """An error: kind, message and hint as JSON. It also ends an answer."""
    SIBLING = b"s"
    """Requests another file by name; answered with the file, or FAILURE."""
    ENTER = b"i"
    """Paths of directories; the answer says for each whether to read it."""
    WORKING = b"w"
    """A heartbeat while an answer is being prepared."""
    KEY = b"k"
    """The header of an encrypted volume; answered with its key in hexadecimal, as JSON, or FAILURE."""
    CHANNEL = b"c"
    """Passes a socket over which contents can be requested."""
    CONTENT = b"r"
    """Requests a content by number, as JSON."""
    DATA = b"d"
    HOLE = b"h"
    """A number of zero bytes, as JSON."""
    END = b"e"
    """The end of a content."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: FrameKind
    payload: bytes
    files: tuple[int, ...] = ()
    """Descriptors, which the receiver has to close."""

    def json(self) -> Any:
        """Raises ReaderFailed for invalid JSON."""
        try:
            return json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise _protocol_error() from error


class PeerClosed(Exception):
    """The other side closed the connection."""


def send_frame(to: socket.socket, kind: FrameKind, payload: bytes = b"", files: Sequence[int] = ()) -> None:
    """Raises PeerClosed, or TimeoutError as the socket does."""
    head = _HEAD.pack(kind.value, len(payload))
    try:
        if files:
            socket.send_fds(to, [head], files)
            to.sendall(payload)
        elif len(payload) < 1 << 16:
            to.sendall(head + payload)
        else:
            to.sendall(head)
            to.sendall(payload)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerClosed from error


def send_json(to: socket.socket, kind: FrameKind, value: object, files: Sequence[int] = ()) -> None:
    send_frame(to, kind, json.dumps(value).encode("ascii"), files)


def send_failure(to: socket.socket, error: LtspError) -> None:
    send_json(to, FrameKind.FAILURE, [type(error).__name__, error.message, error.hint])


def receive_frame(source: socket.socket, files: int = 0) -> Frame:
    """Receive a frame with at most `files` open files; others are closed.

    Raises PeerClosed, ReaderFailed if the other side violates the protocol, TimeoutError as the socket does.
    """
    try:
        head, given, _, _ = socket.recv_fds(source, _HEAD.size, files)
    except ConnectionResetError as error:
        raise PeerClosed from error
    if not head:
        raise PeerClosed
    if len(head) < _HEAD.size:
        head += _receive_exactly(source, _HEAD.size - len(head))
    letter, size = _HEAD.unpack(head)
    try:
        kind = FrameKind(letter)
    except ValueError:
        raise _protocol_error() from None
    if size > _MOST:
        raise _protocol_error()
    return Frame(kind, _receive_exactly(source, size), tuple(given))


def _receive_exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        try:
            count = source.recv_into(view[at:])
        except ConnectionResetError:
            count = 0
        if not count:
            raise PeerClosed
        at += count
    return bytes(data)


def parse_failure(frame: Frame) -> LtspError:
    """The error in a FAILURE frame, made safe to print."""
    match frame.json():
        case [str(kind), str(message), str(hint)]:
            return _ERRORS.get(kind, FormatError)(_make_printable(message), _make_printable(hint))
        case _:
            return _protocol_error()


def _make_printable(text: str) -> str:
    """Escape the text only if needed: printable text was escaped before, and would get double backslashes."""
    return text if text.isprintable() else printable(text)


def _protocol_error() -> ReaderFailed:
    return ReaderFailed("invalid reply from the reader process")
