"""Read archives and container images as trees: a tar of a root file system, a tar of image parts, or an OCI layout.

Contents are read in place, on demand; only compressed data and data from a pipe is stored unpacked, once. Needs no
privileges: owners and devices are those recorded in the archive.
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
from ltsp.archive.document import ImageLayer, OpenPart
from ltsp.archive.header import BLOCK, is_tar_header
from ltsp.archive.input import ArchiveInput, ArchiveUsage, PipeInput, SeekableInput
from ltsp.archive.member import ArchivedContent, read_members
from ltsp.archive.spool import Spool, open_unnamed_file
from ltsp.archive.tree_builder import ArchiveTreeBuilder
from ltsp.errors import FormatError, SourceError
from ltsp.storage import compressed
from ltsp.storage.blocks import Blocks, read_pieces
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MAX_REPEATS = 8
_SMALL_LAYER_SIZE = 64 << 10
"""Bytes of a layer that may be repeated more often: builders write empty layers for steps that change no file."""


class ArchiveFormat(Enum):
    """How to interpret a file."""

    ANY = "any"
    """Detected from the content."""
    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(slots=True)
class ArchiveReader:
    """Reads archives; trees and their contents are usable until it is closed. Messages begin with a verb."""

    scratch: str
    """The directory for unpacked data."""
    make_file: Callable[[str], BinaryIO] = open_unnamed_file
    """Creates an unnamed file in that directory."""
    heartbeat: Callable[[], None] = lambda: None
    """Called regularly during the work."""
    _usage: ArchiveUsage = field(default_factory=ArchiveUsage)
    _spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self._spool = Spool(self.scratch, self.make_file, self.heartbeat)

    def read_file(self, stored: Blocks, form: ArchiveFormat = ArchiveFormat.ANY, tag: str = "") -> Tree:
        """The tree of an archive in a seekable file.

        Raises FormatError if it is damaged, SourceError if the wanted image is ambiguous or does not exist.
        """
        if compressed.detect_compression(stored.read_at(0, compressed.MAX_MAGIC_SIZE)):
            return self.read_stream(read_pieces(stored), form, tag)
        self._usage.stored_bytes += stored.size
        return self._read_archive(SeekableInput(stored), form, tag)

    def read_stream(self, data: Iterator[bytes], form: ArchiveFormat = ArchiveFormat.ANY, tag: str = "") -> Tree:
        """The tree of an archive from a pipe. Raises like `read_file`."""
        return self._read_archive(PipeInput(self._unpack(data), self._spool), form, tag)

    def read_layout(self, open_part: OpenPart, tag: str = "") -> Tree:
        """The tree of an image in an OCI layout. Raises like `read_file`."""

        def counted(path: str) -> Blocks:
            part = open_part(path)
            self._usage.stored_bytes += part.size
            return part

        return self._read_layers(counted, oci.read_layers(counted, tag))

    def close(self) -> None:
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_archive(self, source: ArchiveInput, form: ArchiveFormat, tag: str) -> Tree:
        builder = ArchiveTreeBuilder(self._usage)
        for member in read_members(source, self._usage):
            builder.add(member)
        tree = builder.finish()
        if (
            form is not ArchiveFormat.DOCKER
            and _has_path(tree, oci.INDEX)
            and isinstance(tree.follow("blobs"), Directory)
        ):
            open_part = _make_part_opener(tree)
            return self._read_layers(open_part, oci.read_layers(open_part, tag))
        if form is not ArchiveFormat.OCI and _has_path(tree, docker.MANIFEST) and not _has_path(tree, "etc"):
            open_part = _make_part_opener(tree)
            return self._read_layers(open_part, docker.read_layers(open_part, tag))
        if form is not ArchiveFormat.ANY or tag:
            raise SourceError(
                "contains no container image", "for a tar archive of a root file system, give the file name alone"
            )
        return tree

    def _read_layers(self, open_part: OpenPart, layers: Sequence[ImageLayer]) -> Tree:
        builder = ArchiveTreeBuilder(self._usage)
        times = Counter(layer.path for layer in layers)
        for layer in layers:
            builder.next_layer()
            stored = open_part(layer.path)
            if times[layer.path] > _MAX_REPEATS and stored.size > _SMALL_LAYER_SIZE:
                raise FormatError(f"is damaged: it repeats one layer {times[layer.path]} times")
            for member in read_members(self._open_layer(stored, layer), self._usage, must_end=False):
                builder.add(member)
        return builder.finish()

    def _open_layer(self, stored: Blocks, layer: ImageLayer) -> ArchiveInput:
        """The tar of a layer. Data read in place is verified first, compressed data while it is unpacked."""
        if layer.size is not None and stored.size != layer.size:
            raise FormatError(f"is damaged: {layer.packed} is {stored.size} bytes long, not {layer.size}")
        packed = compressed.detect_compression(stored.read_at(0, compressed.MAX_MAGIC_SIZE))
        data = read_pieces(stored)
        if layer.packed is not None:
            data = layer.packed.verify(data)
        if packed:
            data = compressed.decompress_stream(data, self._usage.count_unpacked)
        if layer.unpacked is not None:
            data = layer.unpacked.verify(data)
        if packed:
            return PipeInput(data, self._spool)
        for _piece in data:
            pass
        return SeekableInput(stored)

    def _unpack(self, data: Iterator[bytes]) -> Iterator[bytes]:
        start = b""
        while len(start) < BLOCK and (piece := next(data, b"")):
            start += piece
        data = chain((start,), data)
        if compressed.detect_compression(start):
            yield from compressed.decompress_stream(data, self._usage.count_unpacked)
            return
        for piece in data:
            self._usage.stored_bytes += len(piece)
            yield piece


def is_archive(stored: Blocks) -> bool:
    """Whether a file is a tar archive, compressed or not; only its first block is decompressed.

    A disk may be compressed, too.
    """
    start = stored.read_at(0, BLOCK)
    if compressed.detect_compression(start):
        try:
            start = _read_first_block(stored)
        except FormatError:
            return False
    return is_tar_header(start[:BLOCK])


def _read_first_block(stored: Blocks) -> bytes:
    start = b""
    for piece in compressed.decompress_stream(read_pieces(stored), ArchiveUsage().count_unpacked):
        start += piece
        if len(start) >= BLOCK:
            break
    return start


def _has_path(tree: Tree, path: str) -> bool:
    return tree.get(path) is not None


def _make_part_opener(tree: Tree) -> OpenPart:
    """Opens the parts of an image by their path in an archive, following links inside it."""

    def part(path: str) -> Blocks:
        node = tree.follow(path)
        if not isinstance(node, File):
            raise FormatError(f"is damaged: {printable(path)} is missing")
        assert isinstance(node.content, ArchivedContent)
        return node.content.map()

    return part
