"""What passes between us and the process that reads a source: frames over a socket, some with open files."""

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
"""Bytes of a frame: a directory of some ten million entries."""
MOST_FILES = 64
"""In a frame."""
SELECTED = "selected"
"""Of the tree that is asked for: not all directories are to be looked into."""
_ERRORS: dict[str, type[LtspError]] = {
    each.__name__: each
    for each in (LtspError, LockHeld, FormatError, ReaderFailed, SourceError, FileUnreadable, FileChanged)
}


class FrameKind(Enum):
    """What a frame is."""

    ASK = b"?"
    """Do this: JSON."""
    ANSWER = b"!"
    """JSON; the last frame of an answer."""
    MORE = b"+"
    """JSON; an answer goes on."""
    FAILURE = b"-"
    """Error: kind, message and hint as JSON. The last frame of an answer, too."""
    SIBLING = b"s"
    """The name of another file beside the one that is read; it comes back with the file, or as FAILURE."""
    ENTER = b"i"
    """Paths of directories; the answer says of each whether it is to be looked into."""
    WORKING = b"w"
    """The answer takes its time."""
    KEY = b"k"
    """What stands before the bytes of an encrypted volume; its key comes back as JSON in hexadecimal, or as FAILURE."""
    CHANNEL = b"c"
    """With a socket, over which contents are asked for from now on."""
    CONTENT = b"r"
    """The number of a content, as JSON."""
    DATA = b"d"
    HOLE = b"h"
    """So many zero bytes."""
    END = b"e"
    """Of a content."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: FrameKind
    payload: bytes
    files: tuple[int, ...] = ()
    """Descriptors, which are the receiver's to close."""

    def json(self) -> Any:
        """Raises ReaderFailed where it is none."""
        try:
            return json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise _protocol_error() from error


class PeerClosed(Exception):
    """The other side is gone."""


def send_frame(to: socket.socket, kind: FrameKind, payload: bytes = b"", files: Sequence[int] = ()) -> None:
    """Raises Ended, or TimeoutError as the socket does."""
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
    """With so many open files at most; others are closed.

    Raises Ended, ReaderFailed where the other side does not keep to the form, TimeoutError as the socket does.
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
    """The error that a FAILURE tells, safe to print whoever made it."""
    match frame.json():
        case [str(kind), str(message), str(hint)]:
            return _ERRORS.get(kind, FormatError)(_make_printable(message), _make_printable(hint))
        case _:
            return _protocol_error()


def _make_printable(text: str) -> str:
    """Names in it were made printable before; a backslash of theirs is to stay single."""
    return text if text.isprintable() else printable(text)


def _protocol_error() -> ReaderFailed:
    return ReaderFailed("the reader of the source broke off in the middle")
