"""Check an image: its tables before each publication, and all of it against its source with --verify."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ltsp.errors import FileVanished, FormatError, LtspError
from ltsp.squashfs.format import BLOCK_STORED, XATTR_PREFIXES, FragmentEntry, XattrId, unpack_reference
from ltsp.squashfs.meta_reader import LookupTable, MetadataTable
from ltsp.squashfs.reader import EXPORT_ENTRY, Image
from ltsp.squashfs.xattr_writer import XattrFate, classify_xattr
from ltsp.tree.content import Stream
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable, sort_names
from ltsp.tree.node import Device, Directory, File, Metadata, Node, Symlink, clamp_time
from ltsp.tree.tree import Tree

_MAX_SHOWN_DIFFERENCES = 5
"""Differences listed in the message."""
_CHUNK_SIZE = 1 << 20
"""Bytes read at a time."""


def check_image(file: BinaryIO) -> Image:
    """The image in a file, after a check that all of its tables are readable and point into it.

    Contents are not decompressed; it takes about 1 s for a million files. Raises FormatError.
    """
    image = Image.open(file)
    image.compression()
    tables = image.tables
    for table in (tables.inodes, tables.directories):
        for _ in table.blocks():
            pass
    if tables.fragments is not None:
        _check_fragments(tables.fragments, image)
    if tables.exports is not None:
        _check_exports(tables.exports, tables.inodes)
    if tables.xattrs is not None:
        for _ in tables.xattrs.table.blocks():
            pass
        _check_xattrs(tables.xattrs.ids, tables.xattrs.table)
    return image


def read_all_contents(image: Image) -> None:
    """Decompress each block of each file, without comparing the content.

    Raises FormatError.
    """
    seen: set[int] = set()
    for _, node in image.tree().walk():
        if isinstance(node, File) and id(node) not in seen:
            seen.add(id(node))
            with node.content.open() as stream:
                while True:
                    if hole := stream.hole_size():
                        stream.skip(hole)
                    elif not stream.read(_CHUNK_SIZE):
                        break


def _check_fragments(table: LookupTable, image: Image) -> None:
    area, max_size = image.blocks.area, image.superblock.block_size
    for data in table.blocks():
        for start, word, _unused in FragmentEntry.layout.iter_unpack(data):
            size = word & ~BLOCK_STORED
            if not 0 < size <= max_size or not area.start <= start <= area.stop - size:
                raise FormatError(f"fragment table is damaged: invalid location: {size} bytes at {start}")


def _check_exports(table: LookupTable, inodes: MetadataTable) -> None:
    length = inodes.end - inodes.start
    for data in table.blocks():
        for (reference,) in EXPORT_ENTRY.iter_unpack(data):
            if unpack_reference(reference)[0] >= length:
                raise FormatError(
                    f"export table is damaged: offset {unpack_reference(reference)[0]} is outside the inode table, "
                    f"which has {length} bytes"
                )


def _check_xattrs(ids: LookupTable, table: MetadataTable) -> None:
    length = table.end - table.start
    for data in ids.blocks():
        for reference, count, _size in XattrId.layout.iter_unpack(data):
            if count and unpack_reference(reference)[0] >= length:
                raise FormatError(
                    f"xattr id table is damaged: offset {unpack_reference(reference)[0]} is outside the xattr table, "
                    f"which has {length} bytes"
                )


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification."""

    nodes: int
    source_bytes: int
    """Bytes of contents that were compared."""
    not_compared: tuple[str, ...]
    """Files that changed in the source, so that their content cannot be compared."""


def verify_image(
    image: Image,
    tree: Tree,
    faults: Faults,
    namespaces: Collection[str] = XATTR_PREFIXES,
    progress: Callable[[int], None] = lambda _size: None,
) -> Verification:
    """Compare an image with its source tree.

    `faults` are those of the build; files named there are not expected. Attributes are expected in these namespaces, if
    Linux accepts them, and times as far as squashfs can store them. `progress` is called with the bytes compared since
    the last call.
    Raises LtspError, which names the first differences, and FormatError if the image cannot be read.
    """
    comparison = _Comparison(namespaces, progress)
    for path in [*faults.vanished, *(path for path, _ in faults.unreadable)]:
        comparison.missing.add(id(tree.get(path)))
    for path in faults.changed:
        comparison.changed.add(id(tree.get(path)))
    differences = list(comparison.run(tree, image.tree()))
    if differences:
        more = (
            f" and {len(differences) - _MAX_SHOWN_DIFFERENCES} more"
            if len(differences) > _MAX_SHOWN_DIFFERENCES
            else ""
        )
        raise LtspError(
            f"the image differs from its source: {'; '.join(differences[:_MAX_SHOWN_DIFFERENCES])}{more}",
            "nothing was published; check the disk and memory of this machine, and try again",
        )
    return Verification(comparison.nodes, comparison.source_bytes, tuple(comparison.not_compared))


@dataclass(slots=True)
class _Comparison:
    namespaces: Collection[str]
    progress: Callable[[int], None]
    missing: set[int] = field(default_factory=set)
    """Nodes of the tree, by `id`, that are rightly missing from the image."""
    changed: set[int] = field(default_factory=set)
    """Files whose stored content may be inconsistent."""
    nodes: int = 0
    source_bytes: int = 0
    not_compared: list[str] = field(default_factory=list)
    _pairs: dict[int, Node] = field(default_factory=dict)
    """The node in the image for each node that is not a directory, by `id`."""
    _paired: set[int] = field(default_factory=set)
    """The `id` of each node in `_pairs`."""

    def run(self, expected: Tree, found: Tree) -> Iterator[str]:
        """Differences, one line each."""
        yield from self._compare("", expected.root, found.root)
        pending = [("", expected.root, found.root)]
        while pending:
            prefix, wanted, had = pending.pop()
            for name in sort_names([*wanted.entries.keys() | had.entries.keys()]):
                want, have = wanted.entries.get(name), had.entries.get(name)
                path = prefix + name
                if want is None:
                    yield f"/{printable(path)} is not in the source"
                elif have is None:
                    if id(want) not in self.missing:
                        yield f"/{printable(path)} is missing"
                else:
                    yield from self._compare(path, want, have)
                    if isinstance(want, Directory) and isinstance(have, Directory):
                        pending.append((f"{path}/", want, have))

    def _compare(self, path: str, want: Node, have: Node) -> Iterator[str]:
        known = self._pairs.get(id(want))
        if known is not None or id(have) in self._paired:
            if known is not have:
                yield f"/{printable(path)} has different hard links"
            return
        self.nodes += 1
        if not isinstance(want, Directory):
            self._pairs[id(want)] = have
            self._paired.add(id(have))
        mtime = want.metadata.mtime
        if isinstance(want, File) and isinstance(have, File):
            try:
                mtime = yield from self._compare_content(path, want, have)
            except FileVanished:
                self.not_compared.append(path)
                mtime = have.metadata.mtime
        for name, wanted, had in self._list_facts(want, have, mtime):
            if wanted != had:
                yield f"/{printable(path)}: {name} is {had}, not {wanted}"

    def _list_facts(self, want: Node, have: Node, mtime: int) -> Iterator[tuple[str, object, object]]:
        """Name, expected and found value of everything except contents; only the type if that differs."""
        if type(want) is not type(have):
            yield "type", type(want).__name__.lower(), type(have).__name__.lower()
            return
        expected, found = want.metadata, have.metadata
        yield "mode", oct(expected.mode), oct(found.mode)
        yield "owner", f"{expected.uid}:{expected.gid}", f"{found.uid}:{found.gid}"
        yield "time", clamp_time(mtime), found.mtime
        yield "attributes", self._storable_xattrs(expected), dict(found.xattrs)
        match want, have:
            case Symlink(), Symlink():
                yield "target", printable(want.target), printable(have.target)
            case Device(), Device():
                yield "kind of device", want.kind.value, have.kind.value
                yield "device number", f"{want.major}:{want.minor}", f"{have.major}:{have.minor}"
            case _:
                pass

    def _storable_xattrs(self, metadata: Metadata) -> dict[str, bytes]:
        """The attributes that squashfs can store."""
        return {
            name: value
            for name, value in metadata.xattrs
            if classify_xattr(name, value, self.namespaces) is XattrFate.KEPT
        }

    def _compare_content(self, path: str, want: File, have: File) -> Generator[str, None, int]:
        """Yields differences; returns the expected time, that of the version of the file that was read."""
        if id(want) in self.changed:
            return have.metadata.mtime
        with want.content.open() as source, have.content.open() as image:
            equal = source.size == image.size and self._is_equal(source, image)
            changed = source.mtime is not None or not source.is_consistent()
        if equal:
            return want.metadata.mtime if source.mtime is None else source.mtime
        if not changed:
            yield f"/{printable(path)}: content differs"
            return want.metadata.mtime
        self.not_compared.append(path)
        return have.metadata.mtime

    def _is_equal(self, source: Stream, image: Stream) -> bool:
        left = source.size
        while left:
            hole = min(source.hole_size(), image.hole_size(), left)
            if hole:
                source.skip(hole)
                image.skip(hole)
                left -= hole
                continue
            size = min(left, _CHUNK_SIZE)
            piece = source.read(size)
            if piece != image.read(size) or len(piece) < size:
                return False
            left -= size
            self.source_bytes += size
            self.progress(size)
        return True
