"""Archives and images of containers as trees: a tar of a root file system, of an image's parts, or a layout of those.

Contents stay where they are and are read when they are asked for; only what is compressed, or comes through a pipe, is
kept unpacked beside, once. Works within what anybody may: owners and devices are those that the archive says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.archive import docker, oci
from ltsp.archive.header import BLOCK, is_header
from ltsp.archive.input import Feed, Lying, Passing
from ltsp.archive.limits import Allowance
from ltsp.archive.member import members
from ltsp.archive.oci_layer import Layer, Parts
from ltsp.archive.spool import Spool, nameless
from ltsp.archive.stored import Sparse, Whole
from ltsp.archive.tree_builder import Growth
from ltsp.errors import FormatError, SourceError
from ltsp.storage import compressed
from ltsp.storage.blocks import Blocks, pieces
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MOST_TIMES = 8
_SMALL = 64 << 10
"""Bytes of a layer that may come more often than that: builders write empty ones for steps that change no file."""


class Form(Enum):
    """What a file is taken for."""

    ANY = "any"
    """What its content says."""
    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(slots=True)
class Reader:
    """One reading; trees and their contents can be used until it is closed. Messages begin with a verb."""

    scratch: str
    """The directory where what is unpacked is kept."""
    make: Callable[[str], BinaryIO] = nameless
    """A file in that directory which is gone with its descriptor."""
    working: Callable[[], None] = lambda: None
    """Called now and then."""
    _allowance: Allowance = field(default_factory=Allowance)
    _spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self._spool = Spool(self.scratch, self.make, self.working)

    def file(self, stored: Blocks, form: Form = Form.ANY, tag: str = "") -> Tree:
        """The tree of an archive that lies still.

        Raises FormatError where it is damaged, SourceError where it is not clear what of it is meant.
        """
        if compressed.kind_of(stored.read_at(0, compressed.LONGEST_MAGIC)):
            return self.stream(pieces(stored), form, tag)
        self._allowance.packed += stored.size
        return self._archive(Lying(stored), form, tag)

    def stream(self, data: Iterator[bytes], form: Form = Form.ANY, tag: str = "") -> Tree:
        """The tree of an archive that comes through a pipe. Raises as `file` does."""
        return self._archive(Passing(self._unpacked(data), self._spool), form, tag)

    def layout(self, parts: Parts, tag: str = "") -> Tree:
        """The tree of an image in an OCI layout. Raises as `file` does."""

        def counted(path: str) -> Blocks:
            part = parts(path)
            self._allowance.packed += part.size
            return part

        return self._layers(counted, oci.layers(counted, tag))

    def close(self) -> None:
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _archive(self, feed: Feed, form: Form, tag: str) -> Tree:
        growth = Growth(self._allowance)
        for member in members(feed, self._allowance):
            growth.add(member)
        tree = growth.tree()
        if form is not Form.DOCKER and _has(tree, oci.INDEX) and isinstance(tree.follow("blobs"), Directory):
            parts = _parts(tree)
            return self._layers(parts, oci.layers(parts, tag))
        if form is not Form.OCI and _has(tree, docker.MANIFEST) and not _has(tree, "etc"):
            parts = _parts(tree)
            return self._layers(parts, docker.layers(parts, tag))
        if form is not Form.ANY or tag:
            raise SourceError("holds no image of a container", "is it a root file system? give its name alone")
        return tree

    def _layers(self, parts: Parts, layers: Sequence[Layer]) -> Tree:
        growth = Growth(self._allowance)
        times = Counter(layer.path for layer in layers)
        for layer in layers:
            growth.next_layer()
            stored = parts(layer.path)
            if times[layer.path] > _MOST_TIMES and stored.size > _SMALL:
                raise FormatError(f"has one layer {times[layer.path]} times, which is more than makes sense")
            for member in members(self._layer(stored, layer), self._allowance, must_end=False):
                growth.add(member)
        return growth.tree()

    def _layer(self, stored: Blocks, layer: Layer) -> Feed:
        """The tar of a layer. What lies still is checked before, what has to be unpacked while it is."""
        if layer.size is not None and stored.size != layer.size:
            raise FormatError(f"is damaged: {layer.packed} has {stored.size} bytes and not {layer.size}")
        packed = compressed.kind_of(stored.read_at(0, compressed.LONGEST_MAGIC))
        data = pieces(stored)
        if layer.packed is not None:
            data = layer.packed.checked(data)
        if packed:
            data = compressed.unpacked(data, self._allowance.unpack)
        if layer.unpacked is not None:
            data = layer.unpacked.checked(data)
        if packed:
            return Passing(data, self._spool)
        for _piece in data:
            pass
        return Lying(stored)

    def _unpacked(self, data: Iterator[bytes]) -> Iterator[bytes]:
        start = b""
        while len(start) < BLOCK and (piece := next(data, b"")):
            start += piece
        data = chain((start,), data)
        if compressed.kind_of(start):
            yield from compressed.unpacked(data, self._allowance.unpack)
            return
        for piece in data:
            self._allowance.packed += len(piece)
            yield piece


def is_archive(stored: Blocks) -> bool:
    """Whether a file holds a tar, compressed or not; no more than its first block is unpacked.

    A disk may be compressed as well.
    """
    start = stored.read_at(0, BLOCK)
    if compressed.kind_of(start):
        try:
            start = _first_block(stored)
        except FormatError:
            return False
    return is_header(start[:BLOCK])


def _first_block(stored: Blocks) -> bytes:
    start = b""
    for piece in compressed.unpacked(pieces(stored), Allowance().unpack):
        start += piece
        if len(start) >= BLOCK:
            break
    return start


def _has(tree: Tree, path: str) -> bool:
    return tree.get(path) is not None


def _parts(tree: Tree) -> Parts:
    """The parts of an image by their path in an archive, links inside it followed."""

    def part(path: str) -> Blocks:
        node = tree.follow(path)
        if not isinstance(node, File):
            raise FormatError(f"is damaged: there is no {printable(path)} in it")
        assert isinstance(node.content, Whole | Sparse)
        return node.content

    return part
