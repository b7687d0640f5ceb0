"""About how large an image will be: some of its blocks are compressed, and nothing is written."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, stdev

from ltsp.errors import LtspError
from ltsp.squashfs.superblock import Flags
from ltsp.squashfs.write_options import WriteOptions
from ltsp.tree.content import Content
from ltsp.tree.name import encode
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

_SAMPLE: int = 6 << 20
"""Bytes that are compressed: 0.1 s by zstd at its usual level, 1 s by xz."""
_MOST_BLOCKS = 64
_MOST_FILES = 32
"""Small files that are put together to fill one block, as they share one in the image."""
_FARTHEST = 16 << 20
"""Bytes of a large file that are passed over at most: where a source cannot go to a place, they are read."""
_ERRORS = 4
"""Standard errors of the sample within which the truth is taken for certain: 1 in 15,000 lies outside, both sides."""
_NAME = 20
"""Bytes of inode and directory entry for each name, compressed; attributes come to little more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    size: int
    """Bytes; equal files are counted as often as they occur, because nobody knows of them before they are read."""
    least: int
    """Bytes that it takes in any case: at the lower end of what the sample allows, and were all files equal that may be
    because they have one size."""
    sampled: int
    """Bytes that were compressed for this."""


@dataclass(frozen=True, slots=True)
class _SampledFiles:
    """The regular files with something in them, each once, in the order of their paths."""

    paths: Sequence[str]
    contents: Sequence[Content]
    ends: Sequence[int]
    """Where each ends, were they one after the other without their holes."""
    names: int
    """Of all nodes of the tree."""

    @classmethod
    def of(cls, tree: Tree) -> _SampledFiles:
        seen: dict[int, tuple[str, Content]] = {}
        names = 0
        for path, node in tree.walk():
            names += 1
            if isinstance(node, File) and node.content.stored:
                seen.setdefault(id(node), (path, node.content))
        contents = [content for _, content in seen.values()]
        ends = list(accumulate(content.stored for content in contents))
        return cls([path for path, _ in seen.values()], contents, ends, names)

    @property
    def bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def repeatable(self) -> int:
        """Bytes of files that may be equal to another one, of all but one of each size."""
        count = Counter((content.size, content.stored) for content in self.contents)
        return sum((number - 1) * stored for (_, stored), number in count.items())


def estimate_size(tree: Tree, options: WriteOptions, *, other_codec: bool = False) -> Estimate:
    """The same for the same tree: which blocks are compressed depends on paths and sizes alone.

    `other_codec` says that another program compresses, by a codec that is not ours; ours stands for it.
    """
    files = _SampledFiles.of(tree)
    tables = files.names * _NAME
    unique = files.bytes - (files.repeatable if options.duplicates else 0)
    if Flags.STORED_DATA in options.stored:
        return Estimate(files.bytes + tables, unique, 0)
    ratios, sampled = _sample_ratios(files, options)
    if not ratios:
        return Estimate(files.bytes + tables, 0, 0)
    mean = fmean(ratios)
    error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else mean
    lowest = 0.0 if other_codec else max(0.0, mean - _ERRORS * error)
    return Estimate(int(files.bytes * mean) + tables, int(unique * lowest), sampled)


def _sample_ratios(files: _SampledFiles, options: WriteOptions) -> tuple[list[float], int]:
    """By how much each block of the sample shrinks, and the bytes of all of them.

    Blocks are taken at even distances, so that a file is met as often as its size deserves.
    """
    compress = options.compression.codec(options.block_size).compress
    count = min(_MOST_BLOCKS, _SAMPLE // options.block_size, math.ceil(files.bytes / options.block_size))
    ratios: list[float] = []
    sampled = 0
    for number in range(count):
        first = bisect_right(files.ends, (2 * number + 1) * files.bytes // (2 * count))
        data = _read_block(files, first, options.block_size)
        if data:
            ratios.append(_compression_ratio(data, compress))
            sampled += len(data)
    return ratios, sampled


def _compression_ratio(data: bytes, compress: Callable[[bytes], bytes | bytearray]) -> float:
    if not any(data):
        return 0.0  # a block of zeros takes no room
    return min(1.0, len(compress(data)) / len(data))


def _read_block(files: _SampledFiles, first: int, size: int) -> bytes:
    """A block of a file, or the beginning of it with what follows where it is smaller; empty if it cannot be read."""
    pieces: list[bytes] = []
    left = size
    for index in range(first, min(first + _MOST_FILES, len(files.contents))):
        content = files.contents[index]
        if pieces and content.size >= size:
            break
        piece = _read_piece(content, files.paths[index], size)[:left]
        pieces.append(piece)
        left -= len(piece)
        if not left:
            break
    return b"".join(pieces)


def _read_piece(content: Content, path: str, size: int) -> bytes:
    """A block that the path chooses. What cannot be read is told of when the image is written."""
    blocks = min(content.size, _FARTHEST) // size
    begin = zlib.crc32(encode(path)) % blocks * size if blocks else 0
    try:
        with content.open() as stream:
            if begin:
                stream.skip(begin)
            if hole := stream.hole_size():
                stream.skip(hole)
            return stream.read(size)
    except (OSError, LtspError):
        return b""
