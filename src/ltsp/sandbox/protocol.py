"""The protocol with the sandboxed process: frames over a socket, some with open files.

Most frames hold a message (`ltsp.sandbox.messages`); the others hold bytes as they are, since there may be many: trees,
contents, the headers of volumes.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.errors import FileChanged, FileUnreadable, FormatError, LockHeld, LtspError, ReaderFailed, SourceError
from ltsp.sandbox.messages import Failure, Message, decode, encode, protocol_error
from ltsp.tree.name import printable

_FRAME_HEADER = struct.Struct("<cQ")
_MAX_FRAME_SIZE = 1 << 30
"""Limit on the size of a frame in bytes: enough for a directory of about ten million entries."""
MAX_FILES = 64
"""Per frame."""
_ERROR_CLASSES: dict[str, type[LtspError]] = {
    each.__name__: each
    for each in (LtspError, LockHeld, FormatError, ReaderFailed, SourceError, FileUnreadable, FileChanged)
}


class FrameKind(Enum):
    """The type of a frame, and what it holds."""

    OPEN = b"o"
    """A message that begins a session, with the files of the source; answered with `Done` or FAILURE."""
    ASK = b"?"
    """A message; answered with another one, or FAILURE."""
    TREE_REQUEST = b"t"
    """A message that requests a tree; answered with MORE frames, then `Done`, or FAILURE."""
    SELECTED_TREE_REQUEST = b"u"
    """Likewise, for a tree of which some directories are not to be read: ENTER says which."""
    ANSWER = b"!"
    """A message; the last frame of an answer."""
    TREE_RECORDS = b"+"
    """Records of a tree (`ltsp.sandbox.tree_codec`); the answer continues."""
    FAILURE = b"-"
    """`Failure`; it also ends an answer."""
    FILE_REQUEST = b"s"
    """`FileRequest`; answered with `Done` and the file, or FAILURE."""
    ENTER_REQUEST = b"i"
    """`EnterRequest`; answered with `EnterReply`."""
    HEARTBEAT = b"w"
    """A heartbeat while an answer is being prepared; empty."""
    KEY_REQUEST = b"k"
    """The header of an encrypted volume, as it is; answered with `VolumeKey`, or FAILURE."""
    CHANNEL = b"c"
    """Passes a socket over which contents can be requested; empty."""
    CONTENT_REQUEST = b"r"
    """`ContentRequest`; answered with DATA and HOLE frames, then END, or FAILURE."""
    DATA = b"d"
    """Bytes of a content, as they are."""
    HOLE = b"h"
    """`Hole`."""
    END = b"e"
    """The end of a content; empty."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: FrameKind
    payload: bytes
    files: tuple[int, ...] = ()
    """Descriptors, which the receiver has to close."""


class PeerClosed(Exception):
    """The other side closed the connection."""


def send_frame(to: socket.socket, kind: FrameKind, payload: bytes = b"", files: Sequence[int] = ()) -> None:
    """Raises PeerClosed, or TimeoutError as the socket does."""
    head = _FRAME_HEADER.pack(kind.value, len(payload))
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


def send_message(to: socket.socket, kind: FrameKind, message: Message, files: Sequence[int] = ()) -> None:
    send_frame(to, kind, encode(message), files)


def send_failure(to: socket.socket, error: LtspError) -> None:
    send_message(to, FrameKind.FAILURE, Failure(type(error).__name__, error.message, error.hint))


def receive_frame(source: socket.socket, files: int = 0) -> Frame:
    """Receive a frame with at most `files` open files; others are closed.

    Raises PeerClosed, ReaderFailed if the other side violates the protocol, TimeoutError as the socket does.
    """
    try:
        head, descriptors, _, _ = socket.recv_fds(source, _FRAME_HEADER.size, files)
    except ConnectionResetError as error:
        raise PeerClosed from error
    if not head:
        raise PeerClosed
    if len(head) < _FRAME_HEADER.size:
        head += _receive_exactly(source, _FRAME_HEADER.size - len(head))
    kind_byte, size = _FRAME_HEADER.unpack(head)
    try:
        kind = FrameKind(kind_byte)
    except ValueError:
        raise protocol_error() from None
    if size > _MAX_FRAME_SIZE:
        raise protocol_error()
    return Frame(kind, _receive_exactly(source, size), tuple(descriptors))


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
    """The error in a FAILURE frame, made safe to print. Raises ReaderFailed if it is invalid."""
    failure = decode(frame.payload, Failure)
    return _ERROR_CLASSES.get(failure.kind, FormatError)(
        _make_printable(failure.message), _make_printable(failure.hint)
    )


def _make_printable(text: str) -> str:
    """Escape the text only if needed: printable text was escaped before, and would get double backslashes."""
    return text if text.isprintable() else printable(text)
