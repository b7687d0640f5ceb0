"""A tree becomes a squashfs image. The image depends on the tree and the options alone, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import BinaryIO, Final

from ltsp.errors import UsageError
from ltsp.squashfs.census import Census, clamp
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.contents import Contents
from ltsp.squashfs.directory_table import DirectoryTable
from ltsp.squashfs.format import METADATA_STORED, NO_TABLE, XATTR_PREFIXES
from ltsp.squashfs.fragments import Fragments
from ltsp.squashfs.hierarchy import Hierarchy
from ltsp.squashfs.inode_table import InodeTable
from ltsp.squashfs.output import Output
from ltsp.squashfs.places import Places
from ltsp.squashfs.superblock import LARGEST_BLOCK, MAGIC, PADDING, SMALLEST_BLOCK, Flags, Superblock
from ltsp.squashfs.tables import Compress, MetadataWriter, little_endian, write_listed_table
from ltsp.squashfs.workers import Workers
from ltsp.squashfs.xattr_table import XattrSets
from ltsp.tree.faults import Faults
from ltsp.tree.name import byte_order
from ltsp.tree.node import File
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What mksquashfs's options of the same meaning say."""

    compression: Compression = field(default_factory=Compression)
    block_size: int = 131072
    """Bytes; a power of two from 4096 to 1 MiB."""
    threads: int = 0
    """That compress; 0 is one for each processor that this process may use."""
    compress_inodes: bool = True
    """Inodes and the other tables, but for attributes."""
    compress_data: bool = True
    compress_fragments: bool = True
    compress_xattrs: bool = True
    fragments: bool = True
    """Whether small files and ends of files are packed into shared blocks."""
    duplicates: bool = True
    """Whether files with the same content are stored once."""
    xattrs: bool = True
    xattr_namespaces: Collection[str] = XATTR_PREFIXES
    """Which are kept, of XATTR_PREFIXES."""
    exports: bool = True
    """Whether there is a table of inodes by number, which NFS servers need."""
    time: int | None = None
    """Of the image, in seconds since 1970; None is the newest time in the tree."""
    first: Mapping[str, int] = field(default_factory=dict)
    """Priorities of files by path: those above 0 come before all others, those below 0 after, the highest first."""

    def __post_init__(self) -> None:
        size = self.block_size
        if not SMALLEST_BLOCK <= size <= LARGEST_BLOCK or size & (size - 1):
            raise UsageError(f"no image has blocks of {size} bytes", "choose a power of two from 4K to 1M")

    @property
    def codes(self) -> bool:
        """Whether anything at all is compressed."""
        return self.compression.name != "none"


@dataclass(frozen=True, slots=True)
class Lost:
    """How many of what squashfs cannot hold."""

    times: int
    """Nodes whose time lies before 1970 or after 2106; it became the nearest one."""
    acls: int
    """POSIX ACL attributes."""
    foreign: int
    """Attributes that are not user's, trusted's or security's."""
    too_large: int
    """Attributes beyond what Linux takes."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the parts of an image take, in bytes of the image."""

    data: int
    fragments: int
    inodes: int
    directories: int
    other: int
    """The tables that follow the directories, the superblock and the padding."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where the time went."""

    codec: float
    """CPU time of the threads that compressed blocks, all together."""
    hash: float
    """Telling duplicates by their sha256."""
    contents: float
    """From the first file to the last block, by the clock; reading, `codec` and `hash` happen within."""
    tables: float
    """By the clock."""
    seal: float
    """Reading the image back and its sha256, by the clock."""
    cpu: float
    """CPU time of the whole process while `write` ran."""


@dataclass(frozen=True, slots=True)
class Written:
    """What `write` wrote."""

    size: int
    """Bytes, with the padding."""
    sha256: str
    """Of the whole file, in hexadecimal."""
    inodes: int
    source_bytes: int
    """Of regular files, each inode counted once, duplicates too."""
    duplicates: int
    """Files that share the content of an earlier one."""
    duplicate_bytes: int
    fragment_blocks: int
    lost: Lost
    sizes: Sizes
    seconds: Seconds


def _no_progress(_count: int) -> None:
    pass


def write(
    tree: Tree,
    output: BinaryIO,
    options: WriteOptions,
    faults: Faults,
    progress: Callable[[int], None] = _no_progress,
) -> Written:
    """Write the image to a file opened "w+b" and unbuffered, from its start on.

    `progress` is told how many bytes of source were taken since it was called last. Files that cannot be taken as
    they should are told to `faults`. Raises LtspError where squashfs cannot hold the tree, and what reading or
    writing raises.
    """
    return _Writer(tree, options, faults, progress).write(output)


_RECORD_HEADER: Final = 2
"""Bytes before the compressor's options, as before all metadata."""


class _Writer:
    """The state of one `write`."""

    def __init__(self, tree: Tree, options: WriteOptions, faults: Faults, progress: Callable[[int], None]) -> None:
        self.tree = tree
        self.options = options
        self.faults = faults
        self.progress = progress
        self.census = Census.of(tree)
        self.record = options.compression.options() if options.codes else b""
        self.numbers: dict[int, int] = {}
        self.mtimes: dict[int, int] = {}

    def write(self, file: BinaryIO) -> Written:
        options = self.options
        clock, cpu = perf_counter(), process_time()
        begin = Superblock.layout.size + (_RECORD_HEADER + len(self.record) if self.record else 0)
        output = Output(file, begin)
        workers = Workers(output, options.compression, options.block_size, options.threads or _processors())
        with workers:
            places, fragments, contents = self._write_contents(workers)
        data_end, contents_seconds = output.position, perf_counter() - clock
        clock = perf_counter()

        codec = options.compression.codec(options.block_size)
        compress = codec.compress if options.compress_inodes and options.codes else bytes
        xattrs = XattrSets(options.xattr_namespaces) if options.xattrs else None
        directories: list[bytes | bytearray] = []
        hierarchy = Hierarchy(
            InodeTable(
                MetadataWriter(output.write, compress), {one: at for at, one in enumerate(self.census.ids)}, xattrs
            ),
            DirectoryTable(MetadataWriter(directories.append, compress)),
            places,
            self.numbers,
            self.mtimes,
            self.census.links,
        )
        root = hierarchy.write(self.tree.root)
        directory_table = output.position
        for piece in directories:
            output.write(piece)
        tables_begin = output.position
        fragment_codec = codec.compress if options.compress_fragments and options.codes else bytes
        fragment_table = (
            write_listed_table(output, fragments.table(), fragment_codec) if fragments.count else NO_TABLE
        )
        exports = hierarchy.exports
        export_table = write_listed_table(output, little_endian(exports), compress) if options.exports else NO_TABLE
        id_table = write_listed_table(output, _ids(self.census), compress)
        xattr_codec: Compress = codec.compress if options.compress_xattrs and options.codes else bytes
        xattr_table = xattrs.write(output, xattr_codec) if xattrs is not None else NO_TABLE
        used = output.position
        output.write(bytes(-used % PADDING))
        superblock = Superblock(
            magic=MAGIC,
            inode_count=len(exports),
            mtime=self._time(),
            block_size=options.block_size,
            fragment_count=fragments.count,
            compressor=options.compression.compressor,
            block_log=options.block_size.bit_length() - 1,
            flags=self._flags(xattr_table),
            id_count=len(self.census.ids),
            major=4,
            minor=0,
            root=root,
            bytes_used=used,
            id_table=id_table,
            xattr_table=xattr_table,
            inode_table=data_end,
            directory_table=directory_table,
            fragment_table=fragment_table,
            export_table=export_table,
        )
        tables_seconds = perf_counter() - clock
        clock = perf_counter()
        size = output.position
        digest = output.seal(superblock.pack() + self._options_record())
        fragments_size = fragments.stored_size
        return Written(
            size=size,
            sha256=digest,
            inodes=len(exports),
            source_bytes=contents.source_bytes,
            duplicates=contents.duplicates,
            duplicate_bytes=contents.duplicate_bytes,
            fragment_blocks=fragments.count,
            lost=Lost(
                times=self.census.clamped,
                acls=xattrs.acls if xattrs is not None else 0,
                foreign=xattrs.foreign if xattrs is not None else 0,
                too_large=xattrs.too_large if xattrs is not None else 0,
            ),
            sizes=Sizes(
                data=data_end - begin - fragments_size,
                fragments=fragments_size,
                inodes=directory_table - data_end,
                directories=tables_begin - directory_table,
                other=size - tables_begin + begin,
            ),
            seconds=Seconds(
                codec=workers.codec_seconds,
                hash=contents.hash_seconds,
                contents=contents_seconds,
                tables=tables_seconds,
                seal=perf_counter() - clock,
                cpu=process_time() - cpu,
            ),
        )

    def _write_contents(self, workers: Workers) -> tuple[Places, Fragments, Contents]:
        """Read all files and write their blocks."""
        options = self.options
        places = Places(options.block_size)
        stored = not options.codes
        fragments = Fragments(workers, options.block_size, stored=stored or not options.compress_fragments)
        contents = Contents(
            workers,
            fragments,
            places,
            self.faults,
            self.progress,
            self.census.shared_sizes,
            options.block_size,
            share=options.duplicates,
            pack_ends=options.fragments,
            stored=stored or not options.compress_data,
        )
        numbers = self.numbers
        left_out: set[int] = set()
        for section in _sections(self.tree, options.first):
            fragments.close()
            for path, file in section:
                key = id(file)
                if key in numbers or key in left_out:
                    continue
                result = contents.add(path, file.content)
                if result is None:
                    left_out.add(key)
                    continue
                numbers[key] = result.number
                if result.mtime is not None:
                    self.mtimes[key] = result.mtime
        contents.close()
        return places, fragments, contents

    def _time(self) -> int:
        if self.options.time is not None:
            return clamp(self.options.time)
        return max([self.census.newest, *map(clamp, self.mtimes.values())])

    def _flags(self, xattr_table: int) -> Flags:
        options = self.options
        flags = {
            Flags.STORED_INODES: not (options.compress_inodes and options.codes),
            Flags.STORED_DATA: not (options.compress_data and options.codes),
            Flags.STORED_FRAGMENTS: not (options.compress_fragments and options.codes),
            Flags.STORED_XATTRS: not (options.compress_xattrs and options.codes),
            Flags.NO_FRAGMENTS: not options.fragments,
            Flags.DUPLICATES: options.duplicates,
            Flags.EXPORTABLE: options.exports,
            Flags.NO_XATTRS: xattr_table == NO_TABLE,
            Flags.COMPRESSOR_OPTIONS: bool(self.record),
        }
        chosen = Flags(0)
        for flag, holds in flags.items():
            if holds:
                chosen |= flag
        return chosen

    def _options_record(self) -> bytes:
        if not self.record:
            return b""
        return (len(self.record) | METADATA_STORED).to_bytes(_RECORD_HEADER, "little") + self.record


def _sections(tree: Tree, first: Mapping[str, int]) -> Iterator[Iterator[tuple[str, File]]]:
    """The regular files in the order of writing; a section's fragment blocks hold nothing of another one."""
    files = ((path, node) for path, node in tree.walk() if isinstance(node, File))
    if not first:
        yield files
        return
    chosen = [(path, priority, node) for path, priority in first.items() if isinstance(node := tree.get(path), File)]
    chosen.sort(key=lambda one: (-one[1], [byte_order(name) for name in one[0].split("/")]))
    last = {path for path, priority, _ in chosen if priority < 0}
    yield ((path, node) for path, priority, node in chosen if priority > 0)
    yield ((path, node) for path, node in files if path not in last)
    yield ((path, node) for path, priority, node in chosen if priority < 0)


def _ids(census: Census) -> bytes:
    return b"".join(one.to_bytes(4, "little") for one in census.ids)


def _processors() -> int:
    return len(os.sched_getaffinity(0))
