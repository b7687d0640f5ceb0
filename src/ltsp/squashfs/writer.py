"""Write a tree as a squashfs image, which depends only on the tree and the options, byte for byte."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import BinaryIO

from ltsp.errors import UsageError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.data_writer import DataWriter, FragmentWriter
from ltsp.squashfs.dir_writer import DirectoryWriter
from ltsp.squashfs.file_table import FileTable
from ltsp.squashfs.format import METADATA_STORED, NO_TABLE, XATTR_PREFIXES
from ltsp.squashfs.inode_writer import InodeWriter
from ltsp.squashfs.meta_writer import MetadataWriter, pack_little_endian, write_indexed_table
from ltsp.squashfs.output import ImageOutput, SealedImage
from ltsp.squashfs.prescan import Prescan
from ltsp.squashfs.superblock import MAGIC, MAX_BLOCK_SIZE, MIN_BLOCK_SIZE, PADDING, STORED, Flags, SquashfsSuperblock
from ltsp.squashfs.tree_writer import TreeWriter
from ltsp.squashfs.workers import Workers
from ltsp.squashfs.xattr_writer import XattrWriter
from ltsp.tree.faults import Faults
from ltsp.tree.name import byte_sort_key
from ltsp.tree.node import File, clamp_time
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The equivalents of mksquashfs options."""

    compression: Compression = field(default_factory=Compression)
    block_size: int = 131072
    """Bytes; a power of two from 4096 to 1 MiB."""
    threads: int = 0
    """Compression threads; 0 means one for each processor that this process may use."""
    xattrs: bool = True
    xattr_namespaces: Collection[str] = XATTR_PREFIXES
    """Namespaces to keep, a subset of XATTR_PREFIXES."""
    time: int | None = None
    """Time of the image in seconds since 1970; None means the newest time in the tree."""
    sort_priorities: Mapping[str, int] = field(default_factory=dict)
    """Priorities of files by path: those above 0 come before all others, those below 0 after, the highest first."""

    def __post_init__(self) -> None:
        size = self.block_size
        if not MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE or size & (size - 1):
            raise UsageError(f"invalid block size of {size} bytes", "choose a power of two from 4K to 1M")

    @property
    def is_compressed(self) -> bool:
        """Whether contents and tables are compressed."""
        return self.compression.name != "none"

    @property
    def compressor_options_block(self) -> bytes:
        """The compressor options after the superblock as a metadata block, or empty."""
        options = self.compression.options() if self.is_compressed else b""
        return (len(options) | METADATA_STORED).to_bytes(2, "little") + options if options else b""


@dataclass(frozen=True, slots=True)
class LostMetadata:
    """Counts of metadata that squashfs cannot store."""

    times: int
    """Nodes whose time was clamped to 1970 to 2106."""
    acls: int
    """POSIX ACL attributes."""
    foreign: int
    """Attributes outside of user, trusted and security."""
    too_large: int
    """Attributes that exceed the limits of Linux."""


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of the parts of an image, in bytes."""

    data: int
    fragments: int
    inodes: int
    directories: int
    other: int
    """The tables that follow the directories, the superblock and the padding."""


@dataclass(frozen=True, slots=True)
class WriteSeconds:
    """Where the time went."""

    codec: float
    """Total CPU time of the threads that compress blocks."""
    hash: float
    """Detecting duplicates by their sha256."""
    contents: float
    """Wall-clock time from the first file to the last block, including reading, `codec` and `hash`."""
    tables: float
    """Wall-clock time."""
    cpu: float
    """CPU time of the whole process while `write` ran."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of `write_squashfs`."""

    size: int
    """Bytes, with the padding."""
    sealed: SealedImage
    """The finished file; read it back to verify it and to get its sha256."""
    inodes: int
    source_bytes: int
    """Bytes of regular files, each inode counted once, including duplicates."""
    duplicates: int
    """Files that share their content with an earlier one."""
    duplicate_bytes: int
    fragment_blocks: int
    lost: LostMetadata
    sizes: ImageSizes
    seconds: WriteSeconds


@dataclass(frozen=True, slots=True)
class MksquashfsResult:
    """The result of mksquashfs; fields are named as in WriteResult."""

    size: int
    inodes: int
    source_bytes: int
    lost: LostMetadata
    sockets: int
    """Left out: tar has no type for them."""
    root_attributes: int
    """Attributes of the root directory, which is not in a tar stream."""
    keeps_root: bool
    """Whether this mksquashfs gives the root directory its own owner and time."""


def _no_progress(_count: int) -> None:
    pass


def write_squashfs(
    tree: Tree,
    output: BinaryIO,
    options: WriteOptions,
    faults: Faults,
    progress: Callable[[int], None] = _no_progress,
) -> WriteResult:
    """Write the image to a file opened "w+b" and unbuffered, from its start on.

    `progress` is called with the bytes of source read since the last call. `faults` records files that cannot be stored
    as they should be. Raises LtspError if squashfs cannot store the tree, and whatever reading or writing raises.
    """
    begin, cpu = perf_counter(), process_time()
    prescan = Prescan.of(tree)
    with ImageOutput(output, SquashfsSuperblock.layout.size + len(options.compressor_options_block)) as image:
        with Workers(image, options.compression, options.block_size, options.threads or _count_processors()) as workers:
            files = _write_files(tree, prescan, options, workers, faults, progress)
        contents_end = perf_counter()
        tables = _write_tables(tree, prescan, options, files, image)
        used = image.position
        image.write(bytes(-used % PADDING))
        size = image.position
        tables_end = perf_counter()
        superblock = _make_superblock(prescan, options, files, tables, used)
        sealed = image.seal(superblock.pack() + options.compressor_options_block)
    contents, fragments, xattrs = files.contents, files.fragments, tables.xattrs
    return WriteResult(
        size=size,
        sealed=sealed,
        inodes=tables.inode_count,
        source_bytes=contents.source_bytes,
        duplicates=contents.duplicates,
        duplicate_bytes=contents.duplicate_bytes,
        fragment_blocks=fragments.count,
        lost=LostMetadata(prescan.clamped_times, xattrs.acls, xattrs.foreign, xattrs.too_large),
        sizes=ImageSizes(
            data=tables.inodes - image.start_offset - fragments.stored_size,
            fragments=fragments.stored_size,
            inodes=tables.directories - tables.inodes,
            directories=tables.directories_end - tables.directories,
            other=image.start_offset + size - tables.directories_end,
        ),
        seconds=WriteSeconds(
            codec=workers.codec_seconds,
            hash=contents.hash_seconds,
            contents=contents_end - begin,
            tables=tables_end - contents_end,
            cpu=process_time() - cpu,
        ),
    )


@dataclass(slots=True)
class _WrittenFiles:
    """The stored regular files."""

    file_table: FileTable
    fragments: FragmentWriter
    contents: DataWriter
    content_numbers: dict[int, int] = field(default_factory=dict)
    """Numbers in `file_table` by the `id` of the file; excluded files are missing."""
    mtimes: dict[int, int] = field(default_factory=dict)
    """Times by the `id` of files that changed between the scan and reading."""


def _write_files(
    tree: Tree,
    prescan: Prescan,
    options: WriteOptions,
    workers: Workers,
    faults: Faults,
    progress: Callable[[int], None],
) -> _WrittenFiles:
    """Read all regular files and write their blocks."""
    file_table = FileTable(options.block_size)
    fragments = FragmentWriter(workers, options.block_size)
    contents = DataWriter(
        workers,
        fragments,
        file_table,
        faults,
        progress,
        prescan.shared_sizes,
        options.block_size,
    )
    files = _WrittenFiles(file_table, fragments, contents)
    left_out: set[int] = set()
    for section in _group_by_priority(tree, options.sort_priorities):
        fragments.close()
        for path, file in section:
            key = id(file)
            if key in files.content_numbers or key in left_out:
                continue
            stored = contents.add(path, file.content)
            if stored is None:
                left_out.add(key)
                continue
            files.content_numbers[key] = stored.number
            if stored.mtime is not None:
                files.mtimes[key] = stored.mtime
    contents.close()
    return files


def _group_by_priority(tree: Tree, sort_priorities: Mapping[str, int]) -> Iterator[Iterator[tuple[str, File]]]:
    """The regular files in the order of writing; a section's fragment blocks hold nothing of another one."""
    files = ((path, node) for path, node in tree.walk() if isinstance(node, File))
    if not sort_priorities:
        yield files
        return
    chosen = [
        (path, priority, node) for path, priority in sort_priorities.items() if isinstance(node := tree.get(path), File)
    ]
    chosen.sort(key=lambda one: (-one[1], [byte_sort_key(name) for name in one[0].split("/")]))
    last = {path for path, priority, _ in chosen if priority < 0}
    yield ((path, node) for path, priority, node in chosen if priority > 0)
    yield ((path, node) for path, node in files if path not in last)
    yield ((path, node) for path, priority, node in chosen if priority < 0)


@dataclass(frozen=True, slots=True)
class _TableOffsets:
    """Offsets of the tables in the image, or NO_TABLE."""

    root: int
    """Reference of the root inode."""
    inode_count: int
    inodes: int
    directories: int
    directories_end: int
    fragments: int
    exports: int
    ids: int
    xattr_sets: int
    xattrs: XattrWriter


def _write_tables(
    tree: Tree, prescan: Prescan, options: WriteOptions, files: _WrittenFiles, image: ImageOutput
) -> _TableOffsets:
    """Write the tables in the order that Linux requires: each list of offsets ends where the next table begins."""
    compress = options.compression.codec(options.block_size).compress
    xattrs = XattrWriter(options.xattr_namespaces)
    ids = {one: index for index, one in enumerate(prescan.ids)}
    listings: list[bytes | bytearray] = []
    tree_writer = TreeWriter(
        InodeWriter(MetadataWriter(image.write, compress), ids, xattrs if options.xattrs else None),
        DirectoryWriter(MetadataWriter(listings.append, compress)),
        files.file_table,
        files.content_numbers,
        files.mtimes,
        prescan.link_counts,
    )
    inodes = image.position
    root = tree_writer.write(tree.root)
    directories = image.position
    for piece in listings:
        image.write(piece)
    directories_end = image.position
    entries, exports = files.fragments.pack_table(), tree_writer.exports
    return _TableOffsets(
        root=root,
        inode_count=len(exports),
        inodes=inodes,
        directories=directories,
        directories_end=directories_end,
        fragments=write_indexed_table(image, entries, compress) if entries else NO_TABLE,
        exports=write_indexed_table(image, pack_little_endian(exports), compress),
        ids=write_indexed_table(image, pack_little_endian(array("I", prescan.ids)), compress),
        xattr_sets=xattrs.write(image, compress),
        xattrs=xattrs,
    )


def _make_superblock(
    prescan: Prescan, options: WriteOptions, files: _WrittenFiles, tables: _TableOffsets, used: int
) -> SquashfsSuperblock:
    newest = max([prescan.latest_mtime, *map(clamp_time, files.mtimes.values())])
    flags = Flags.DUPLICATES | Flags.EXPORTABLE
    for flag, holds in (
        (STORED, not options.is_compressed),
        (Flags.NO_XATTRS, tables.xattr_sets == NO_TABLE),
        (Flags.COMPRESSOR_OPTIONS, bool(options.compressor_options_block)),
    ):
        if holds:
            flags |= flag
    return SquashfsSuperblock(
        magic=MAGIC,
        inode_count=tables.inode_count,
        mtime=newest if options.time is None else clamp_time(options.time),
        block_size=options.block_size,
        fragment_count=files.fragments.count,
        compressor=options.compression.compressor,
        block_log=options.block_size.bit_length() - 1,
        flags=flags,
        id_count=len(prescan.ids),
        major=4,
        minor=0,
        root=tables.root,
        bytes_used=used,
        id_table=tables.ids,
        xattr_table=tables.xattr_sets,
        inode_table=tables.inodes,
        directory_table=tables.directories,
        fragment_table=tables.fragments,
        export_table=tables.exports,
    )


def _count_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0))
