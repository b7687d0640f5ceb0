"""A reader process for tests: it does what it is asked to do."""

from __future__ import annotations

import os
import socket
import time
from contextlib import nullcontext
from dataclasses import dataclass

from corpus.tree_strategies import noise
from ltsp.errors import SourceError
from ltsp.sandbox.session import SessionKind
from ltsp.storage.blocks import FileBlocks
from ltsp.storage.extents import Extent, ExtentStream, chain_extents
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

FILE = Metadata(0o640, 1000, 100, -5, (("user.x", b"\0\xff"),))


class _Sparse:
    """10 bytes, a hole, 3 bytes."""

    size = 10 + (5 << 20) + 3
    stored_size = 13

    def open(self):
        return self

    def __enter__(self):
        self.at = 0
        return self

    def __exit__(self, *_):
        pass

    def hole_size(self):
        return self.size - 3 - self.at if 10 <= self.at < self.size - 3 else 0

    def skip(self, size):
        self.at += size

    def read(self, size):
        end = 10 if self.at < 10 else self.size
        data = b"x" * min(size, end - self.at)
        self.at += len(data)
        return data

    def is_consistent(self):
        return True


class _Liar(_Sparse):
    """Ends before its size."""

    def hole_size(self):
        return 0

    def read(self, size):
        return b"" if self.at >= 10 else super().read(size)


class _InPieces:
    """Each second byte of a file, so that there are as many pieces as bytes."""

    def __init__(self, file):
        blocks = FileBlocks.of(file)
        self.map = chain_extents([Extent(1, blocks, at) for at in range(0, blocks.size, 2)])
        self.size = self.stored_size = self.map.size

    def open(self):
        return nullcontext(ExtentStream(self.map))


@dataclass(frozen=True, slots=True)
class Start:
    refuse: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    do: str
    path: str = ""
    port: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grow:
    """A tree: of what is asked about, or of contents in pieces, or of all kinds of contents."""

    ask: tuple[str, ...] = ()
    in_pieces: int = 0
    lie: bool = False


class Session:
    def __init__(self, request, files, open_sibling):
        self.files, self.open_sibling = files, open_sibling
        if request.refuse:
            raise SourceError("it is refused", "ask otherwise")

    def answer(self, request):
        match request:
            case Act("sibling", path):
                with self.open_sibling(path) as file:
                    return Said((file.read().decode(),))
            case Act("read"):
                return Said((self.files[0].read().decode(),))
            case Act("escape"):
                raise SourceError("a\x1b[2Jb\nc")
            case Act("eat"):
                return Said((str(len(bytearray(1 << 46))),))
            case Act("die"):
                os._exit(3)
            case Act("hang"):
                time.sleep(600)
            case Act("rights"):
                return Said((str(os.getuid()), str(os.getgid()), str(os.getgroups()), _writes()))
            case Act("reach", path, port, pid):
                return Said(tuple(_refused(reached) for reached in _reaching(path, port, pid)))
            case Act("lie"):
                return request
        return Said((request.do,))

    def tree(self, request, entered):
        if request.ask:
            paths = [1] if request.ask == ("invalid",) else request.ask
            answers = dict(zip(paths, entered(paths), strict=True))
            names = {f"{path}-{answer}": File(FILE, Bytes(b"")) for path, answer in answers.items()}
            return Tree(Directory(Metadata(0o755), names))
        if request.in_pieces:
            content = _InPieces(self.files[0])
            names = {f"n{number}": File(FILE, content) for number in range(request.in_pieces)}
            return Tree(Directory(Metadata(0o755), names))
        data = File(FILE, Bytes(noise(3 << 20)))
        entries = {"a": data, "same": data, "sparse": File(FILE, _Sparse()), "empty": File(FILE, Bytes(b""))}
        entries |= {"liar": File(FILE, _Liar())} if request.lie else {}
        many = {f"n{number}": File(FILE, Bytes(str(number).encode())) for number in range(2000)}
        return Tree(Directory(Metadata(0o755), {**entries, "many": Directory(Metadata(0o700), many)}))


def _reaching(path, port, pid):
    """Ways out: a file that anybody may read, a server of this machine, the process that waits for us."""
    yield lambda: os.close(os.open(path, os.O_RDONLY))
    yield lambda: socket.socket().connect((b"127.0.0.1", port))
    yield lambda: os.kill(pid, 0)


def _refused(reached):
    try:
        reached()
    except OSError as error:
        return error.strerror or "refused"
    return ""


def _writes():
    try:
        with open("/etc/ltsp-must-not-be", "w") as file:
            file.write("x")
    except OSError as error:
        return error.strerror
    return "written"


SESSION = SessionKind(Start, Session, (Act, Grow))
