"""Trees made up by hypothesis, for whatever takes a tree: everything that Linux can have in a directory."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from hypothesis import strategies as st

from ltsp.tree.content import Bytes, Content, Stream
from ltsp.tree.name import decode
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.tree import Tree


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no codec makes smaller."""
    return random.Random(seed).randbytes(size)


def text(size: int, seed: int = 0) -> bytes:
    """Bytes that every codec makes smaller."""
    line = b"line %d of a file that compresses\n" % seed
    return (line * (size // len(line) + 1))[:size]


def zeros(size: int, _seed: int = 0) -> bytes:
    return bytes(size)


@dataclass(frozen=True, slots=True)
class Made:
    """Content that is made when it is read, so that a tree in a test's report is short."""

    make: Callable[[int, int], bytes]
    size: int
    seed: int = 0

    @property
    def stored(self) -> int:
        return self.size

    def open(self) -> AbstractContextManager[Stream]:
        return Bytes(self.make(self.size, self.seed)).open()


@dataclass(frozen=True, slots=True)
class Sparse:
    """Content that is noise at some places and holes elsewhere."""

    size: int
    data: tuple[tuple[int, int], ...] = ()
    """Place and bytes, in order, not touching each other."""

    @property
    def stored(self) -> int:
        return sum(size for _, size in self.data)

    def open(self) -> AbstractContextManager[SparseStream]:
        return nullcontext(SparseStream(self))


@dataclass(slots=True)
class SparseStream:
    content: Sparse
    at: int = 0
    bytes_read: int = 0
    """Zeros of holes too: what a reader asked for without need."""
    mtime: int | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.content.size

    def read(self, size: int) -> bytes:
        size = max(0, min(size, self.size - self.at))
        piece = bytearray(size)
        for begin, count in self.content.data:
            if begin < self.at + size and begin + count > self.at:
                cut = noise(count, begin)[max(0, self.at - begin) : self.at + size - begin]
                to = max(0, begin - self.at)
                piece[to : to + len(cut)] = cut
        self.at += size
        self.bytes_read += size
        return bytes(piece)

    def hole_size(self) -> int:
        for begin, count in self.content.data:
            if begin + count > self.at:
                return max(0, begin - self.at)
        return max(0, self.size - self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        return True


NAMES = st.one_of(
    st.text("abcdefgh.-_", min_size=1, max_size=8),
    st.binary(min_size=1, max_size=20).map(decode),
    st.sampled_from(["line\nbreak", "\x1b[31mred", "tab\t", "a" * 255, "ü" * 127, decode(b"\xff" * 255), " ", "-rf"]),
).filter(lambda name: name not in {".", ".."} and "/" not in name and "\0" not in name)
TIMES = st.one_of(
    st.integers(0, 2**32 - 1), st.integers(-(2**33), 2**34), st.sampled_from([-1, 0, 2**31, 2**32 - 1, 2**32])
)
IDS = st.one_of(st.sampled_from([0, 1000, 65534]), st.integers(0, 2**32 - 2))  # the last one means "leave it"
_VALUES = st.one_of(st.binary(max_size=40), st.integers(60, 300).map(lambda size: text(size, 5)))
_ANY_XATTRS = st.dictionaries(st.sampled_from(["trusted.a", "trusted.overlay.b", "security.c"]), _VALUES, max_size=3)
_FILE_XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "user.ü", "user." + "n" * 250, "trusted.a", "security.c"]), _VALUES, max_size=4
)


def _metadata(xattrs: st.SearchStrategy[dict[str, bytes]]) -> st.SearchStrategy[Metadata]:
    return st.builds(
        Metadata,
        mode=st.one_of(st.integers(0, 0o7777), st.sampled_from([0o644, 0o755])),
        uid=IDS,
        gid=IDS,
        mtime=TIMES,
        xattrs=xattrs.map(lambda found: tuple(sorted(found.items(), key=lambda pair: pair[0].encode()))),
    )


ANY_METADATA = _metadata(_ANY_XATTRS)
FILE_METADATA = _metadata(_FILE_XATTRS)
"""For files and directories: Linux keeps user attributes of nothing else."""


def contents(block_size: int) -> st.SearchStrategy[Content]:
    """Small and large, around whole blocks, alike and different, with holes."""
    edges = st.builds(
        lambda blocks, more: max(0, blocks * block_size + more),
        st.integers(0, 4),
        st.sampled_from([-1, 0, 1, 7, block_size // 8, block_size // 8 + 1, block_size // 2]),
    )
    sizes = st.one_of(st.integers(0, 200), edges)
    return st.one_of(
        st.builds(Made, st.sampled_from([text, noise, zeros]), sizes, st.integers(0, 3)),
        st.builds(
            lambda before, size, after: Sparse(before + size + after, ((before, size),)),
            edges,
            st.integers(1, 2 * block_size),
            edges,
        ),
    )


def nodes(block_size: int) -> st.SearchStrategy[Node]:
    """Everything but directories."""
    targets = st.one_of(NAMES, st.just("a/" * 2000 + "end"), st.just("/etc/passwd"))
    return st.one_of(
        st.builds(File, FILE_METADATA, contents(block_size)),
        st.builds(File, FILE_METADATA, contents(block_size)),
        st.builds(lambda metadata, to: Symlink(Metadata(0o777, *_rest(metadata)), to), ANY_METADATA, targets),
        st.builds(Device, ANY_METADATA, st.sampled_from(DeviceKind), st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
        st.builds(Fifo, ANY_METADATA),
        st.builds(Socket, ANY_METADATA),
    )


def _rest(metadata: Metadata) -> tuple[int, int, int, tuple[tuple[str, bytes], ...]]:
    """All but the mode: Linux knows one for symbolic links."""
    return metadata.uid, metadata.gid, metadata.mtime, metadata.xattrs


@st.composite
def trees(draw: st.DrawFn, block_size: int = 4096) -> Tree:
    """Trees with hard links, within and across directories."""
    shared = draw(st.lists(nodes(block_size), max_size=3))
    leaves = nodes(block_size) if not shared else st.one_of(nodes(block_size), st.sampled_from(shared))
    entries = st.recursive(
        st.dictionaries(NAMES, leaves, max_size=6),
        lambda inner: st.dictionaries(NAMES, st.one_of(leaves, st.builds(Directory, FILE_METADATA, inner)), max_size=4),
        max_leaves=20,
    )
    return Tree(Directory(draw(FILE_METADATA), draw(entries)))
