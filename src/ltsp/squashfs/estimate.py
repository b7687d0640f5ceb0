"""Estimate the size of an image by compressing a sample of its blocks; nothing is written."""

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
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.content import Content
from ltsp.tree.name import encode
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

_SAMPLE_SIZE: int = 6 << 20
"""Bytes to compress: 0.1 s with zstd at its default level, 1 s with xz."""
_MAX_SAMPLED_BLOCKS = 64
_MAX_COMBINED_FILES = 32
"""Small files to combine into one block, as they share one in the image."""
_MAX_SKIPPED_SIZE = 16 << 20
"""Bytes of a large file to skip at most: a source that cannot seek has to read them."""
_STANDARD_ERRORS = 4
"""Standard errors around the sample that count as certain: 1 in 15,000 is outside, on either side."""
_SIZE_PER_NAME = 20
"""Compressed bytes of inode and directory entry per name; attributes add little."""


@dataclass(frozen=True, slots=True)
class Estimate:
    size: int
    """Bytes; duplicates are counted each time, because they are unknown before the files are read."""
    minimum: int
    """Minimum in bytes: the lower bound of the sample, assuming that all files of the same size are duplicates."""
    sampled: int
    """Bytes compressed for the estimate."""


@dataclass(frozen=True, slots=True)
class _SampledFiles:
    """The nonempty regular files, each once, in path order."""

    paths: Sequence[str]
    contents: Sequence[Content]
    end_offsets: Sequence[int]
    """End of each file in their concatenation without holes."""
    name_count: int
    """Names of all nodes of the tree."""

    @classmethod
    def of(cls, tree: Tree) -> _SampledFiles:
        seen: dict[int, tuple[str, Content]] = {}
        name_count = 0
        for path, node in tree.walk():
            name_count += 1
            if isinstance(node, File) and node.content.stored_size:
                seen.setdefault(id(node), (path, node.content))
        contents = [content for _, content in seen.values()]
        ends = list(accumulate(content.stored_size for content in contents))
        return cls([path for path, _ in seen.values()], contents, ends, name_count)

    @property
    def bytes(self) -> int:
        return self.end_offsets[-1] if self.end_offsets else 0

    @property
    def possible_duplicate_bytes(self) -> int:
        """Bytes of possible duplicates: all but one of the files of each size."""
        count = Counter((content.size, content.stored_size) for content in self.contents)
        return sum((number - 1) * stored for (_, stored), number in count.items())


def estimate_size(tree: Tree, options: WriteOptions, *, may_be_smaller: bool = False) -> Estimate:
    """Estimate the size; the result is the same for the same tree, as the sample depends only on paths and sizes.

    `may_be_smaller` means that another program writes the image in its own way, so that there is no lower bound.
    """
    files = _SampledFiles.of(tree)
    tables = files.name_count * _SIZE_PER_NAME
    unique = files.bytes - files.possible_duplicate_bytes
    if not options.is_compressed:
        return Estimate(files.bytes + tables, unique, 0)
    ratios, sampled = _sample_ratios(files, options)
    if not ratios:
        return Estimate(files.bytes + tables, 0, 0)
    mean = fmean(ratios)
    error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else mean
    lowest = 0.0 if may_be_smaller else max(0.0, mean - _STANDARD_ERRORS * error)
    return Estimate(int(files.bytes * mean) + tables, int(unique * lowest), sampled)


def _sample_ratios(files: _SampledFiles, options: WriteOptions) -> tuple[list[float], int]:
    """The compression ratio of each block of the sample, and the total of their bytes.

    Blocks are taken at equal distances, so that each file is sampled in proportion to its size.
    """
    compress = options.compression.codec(options.block_size).compress
    count = min(_MAX_SAMPLED_BLOCKS, _SAMPLE_SIZE // options.block_size, math.ceil(files.bytes / options.block_size))
    ratios: list[float] = []
    sampled = 0
    for number in range(count):
        first = bisect_right(files.end_offsets, (2 * number + 1) * files.bytes // (2 * count))
        data = _read_block(files, first, options.block_size)
        if data:
            ratios.append(_compression_ratio(data, compress))
            sampled += len(data)
    return ratios, sampled


def _compression_ratio(data: bytes, compress: Callable[[bytes], bytes | bytearray]) -> float:
    if not any(data):
        return 0.0  # a block of zeros takes no space
    return min(1.0, len(compress(data)) / len(data))


def _read_block(files: _SampledFiles, first: int, size: int) -> bytes:
    """A block of a file, or of several small files; empty if it cannot be read."""
    pieces: list[bytes] = []
    left = size
    for index in range(first, min(first + _MAX_COMBINED_FILES, len(files.contents))):
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
    """A block chosen by the path. Read errors are ignored here, and reported when the image is written."""
    blocks = min(content.size, _MAX_SKIPPED_SIZE) // size
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
