"""The process that parses disks, file systems and archives, which may be hostile.

It receives open files, drops its privileges (`ltsp.sandbox.confine`), and answers requests over a socket until that is
closed.
"""

from __future__ import annotations

import codecs
import importlib
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from ltsp.errors import FormatError, LtspError, ReaderFailed
from ltsp.sandbox.confine import confine
from ltsp.sandbox.messages import ContentRequest, Done, EnterReply, EnterRequest, Hole, Message, decode
from ltsp.sandbox.protocol import (
    MAX_FILES,
    Frame,
    FrameKind,
    PeerClosed,
    receive_frame,
    send_failure,
    send_frame,
    send_message,
)
from ltsp.sandbox.session import Caller, ContentLocator, Session, SessionKind
from ltsp.sandbox.tree_codec import encode_tree
from ltsp.tree.content import Content
from ltsp.tree.selection import DirectoryFilter, enter_all

_MAX_PATHS = 8192
"""Paths per request."""
_CODECS = ("ascii", "latin-1", "unicode_escape", "utf-16", "utf-16-le", "utf-16-be", "cp437", "cp850")
"""Codecs for names on disks and in messages, loaded in advance: later Python's files may be unreadable."""
_PIECE_SIZE = 1 << 20
"""Bytes of content per frame."""


def serve(control: socket.socket, kinds: Sequence[SessionKind]) -> None:
    """Answer requests until the other side closes the socket."""
    locator = ContentLocator()
    caller = Caller(control, locator)
    contents: list[Content] = []
    session: Session | None = None

    def answer(frame: Frame) -> None:
        nonlocal session
        if frame.kind is FrameKind.OPEN:
            request: Message = decode(frame.payload, *(each.request for each in kinds))
            kind = next(each for each in kinds if isinstance(request, each.request))
            session = kind.begin(request, locator.add_files(frame), caller)
            send_message(control, FrameKind.ANSWER, Done())
            return
        assert session is not None, "the first request opens a session"
        request = decode(frame.payload, *(each for kind in kinds for each in kind.requests))
        if frame.kind is FrameKind.ASK:
            send_message(control, FrameKind.ANSWER, session.answer(request))
            return
        entered = _ask_entered(control) if frame.kind is FrameKind.SELECTED_TREE_REQUEST else enter_all
        for batch in encode_tree(session.tree(request, entered), contents, locator.locate):
            send_frame(control, FrameKind.TREE_RECORDS, batch)
        send_message(control, FrameKind.ANSWER, Done())

    with suppress(PeerClosed):
        while True:
            frame = receive_frame(control, MAX_FILES)
            if frame.kind is FrameKind.CHANNEL:
                channel = socket.socket(fileno=frame.files[0])
                threading.Thread(target=_serve_contents, args=(channel, contents), daemon=True).start()
                continue
            try:
                answer(frame)
            except LtspError as error:
                send_failure(control, error)
            except MemoryError:
                send_failure(
                    control,
                    ReaderFailed("it needs more memory than any valid source", "it may be damaged: copy it again"),
                )


def _ask_entered(control: socket.socket) -> DirectoryFilter:
    """Asks the other side which directories to read."""

    def entered(paths: Sequence[str]) -> Sequence[bool]:
        answers: list[bool] = []
        for at in range(0, len(paths), _MAX_PATHS):
            send_message(control, FrameKind.ENTER_REQUEST, EnterRequest(tuple(paths[at : at + _MAX_PATHS])))
            answers += decode(receive_frame(control).payload, EnterReply).is_entered
        return answers

    return entered


def _serve_contents(channel: socket.socket, contents: list[Content]) -> None:
    with channel, suppress(PeerClosed):
        while True:
            number = decode(receive_frame(channel).payload, ContentRequest).number
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
                send_message(channel, FrameKind.HOLE, Hole(hole))
                at += hole
                continue
            data = stream.read(min(_PIECE_SIZE, stream.size - at))
            if not data:
                break
            send_frame(channel, FrameKind.DATA, data)
            at += len(data)
    send_frame(channel, FrameKind.END)


def main() -> None:
    """`argv`: the descriptor of the socket, the limits in bytes on memory and on files that it writes, and the session
    modules to load.
    """
    descriptor, memory, file_size = map(int, sys.argv[1:4])
    kinds = [importlib.import_module(name).SESSION for name in sys.argv[4:]]
    for name in _CODECS:
        codecs.lookup(name)
    with socket.socket(fileno=descriptor) as control:
        confine(memory, file_size)
        os.chdir("/")
        serve(control, kinds)


if __name__ == "__main__":
    main()
