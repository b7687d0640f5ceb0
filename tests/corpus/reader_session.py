"""A reader process for tests: it does what it is asked to do."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager

from corpus.tree_strategies import noise
from ltsp.errors import SourceError
from ltsp.sandbox.worker import main
from ltsp.storage.extents import Extent
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

FILE = Metadata(0o640, 1000, 100, -5, (("user.x", b"\0\xff"),))


class _Sparse:
    """10 bytes, a hole, 3 bytes."""

    size = 10 + (5 << 20) + 3
    stored = 13

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
        self.descriptor = file.fileno()
        self.data = os.pread(self.descriptor, 1 << 20, 0)[::2]
        self.size = self.stored = len(self.data)

    @contextmanager
    def open(self):
        with Bytes(self.data).open() as stream:
            self.read, self.hole_size = stream.read, stream.hole_size
            yield self

    def extents(self):
        return (Extent(self.descriptor, 2 * number, 1) for number in range(self.size))


def begin(files, open_sibling, options):
    return Session(files, open_sibling, options)


class Session:
    def __init__(self, files, open_sibling, options):
        self.files, self.open_sibling, self.options = files, open_sibling, options
        if options.get("refuse"):
            raise SourceError("it is refused", "ask otherwise")

    def query(self, question):
        match question:
            case {"sibling": name}:
                with self.open_sibling(name) as file:
                    return file.read().decode()
            case {"do": "read"}:
                return self.files[0].read().decode()
            case {"do": "escape"}:
                raise SourceError("a\x1b[2Jb\nc")
            case {"do": "eat"}:
                return len(bytearray(1 << 46))
            case {"do": "die"}:
                os._exit(3)
            case {"do": "hang"}:
                time.sleep(600)
            case {"do": "rights"}:
                return [os.getuid(), os.getgid(), os.getgroups(), _writes()]
            case {"do": "reach", "path": path, "port": port, "pid": pid}:
                return [_refused(reached) for reached in _reaching(path, port, pid)]
        return question

    def tree(self, question, entered):
        if question.get("ask"):
            paths = question["ask"]
            answers = dict(zip(paths, entered(paths), strict=True))
            names = {f"{path}-{answer}": File(FILE, Bytes(b"")) for path, answer in answers.items()}
            return Tree(Directory(Metadata(0o755), names))
        if count := question.get("in pieces"):
            content = _InPieces(self.files[0])
            return Tree(Directory(Metadata(0o755), {f"n{number}": File(FILE, content) for number in range(count)}))
        data = File(FILE, Bytes(noise(3 << 20)))
        entries = {"a": data, "same": data, "sparse": File(FILE, _Sparse()), "empty": File(FILE, Bytes(b""))}
        entries |= {"liar": File(FILE, _Liar())} if question.get("lie") else {}
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


if __name__ == "__main__":
    main(begin)
