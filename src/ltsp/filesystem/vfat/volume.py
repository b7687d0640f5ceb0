"""Read FAT12, FAT16 and FAT32 with long names, as a mount of the EFI system partition shows them. Linux fs/fat

FAT has no owners, modes and links: root owns everything, and the mask of the mount determines the modes.
"""

from __future__ import annotations

import calendar
import stat
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from ltsp.errors import FormatError
from ltsp.filesystem.node_types import make_node
from ltsp.filesystem.record_reader import RecordReader, translate_damage
from ltsp.filesystem.tree_reader import FilesystemLimits, FilesystemTreeReader
from ltsp.filesystem.vfat.boot_sector import BootSector
from ltsp.filesystem.vfat.name import LongName, short_name
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun, ExtentStream, add_run, map_runs, read_runs
from ltsp.tree.content import Stream
from ltsp.tree.node import Metadata, Node
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree

REMEDY = "run fsck.vfat on it, or on a copy"
_MASK = 0o022
"""The mask of a mount by root without options."""
_ENTRY = struct.Struct("<11sBBB6xHHHHI")
_READ_ONLY, _LABEL, _DIRECTORY = 0x1, 0x8, 0x10
_LONG, _LONG_MASK = 0x0F, 0x3F
_DELETED = 0xE5
_MOST_DIRECTORY = 2 << 20
"""Bytes of a directory. Linux FAT_MAX_DIR_SIZE"""
_ROOT = -1


def open(blocks: Blocks, mask: int = _MASK) -> Vfat:  # noqa: A001 - every file system module has a function of this name
    """The file system in these blocks; `mask` has the mode bits to clear.

    Raises FormatError if it is not vfat or is damaged.
    """
    with translate_damage("the vfat file system"):
        return Vfat(blocks, BootSector.parse(blocks.read_at(0, 512), blocks.size), mask)


@dataclass(frozen=True, slots=True, eq=False)
class _VfatContent:
    """A file; its clusters are looked up when it is opened."""

    volume: Vfat
    cluster: int
    size: int

    @property
    def stored(self) -> int:
        return self.size

    def open(self) -> AbstractContextManager[Stream]:
        runs = self.volume.runs(self.cluster, self.size) if self.size else []
        return nullcontext(ExtentStream(map_runs(self.volume.blocks, self.size, runs)))


@dataclass(frozen=True, slots=True)
class _FatEntry:
    """An entry whose node has not been created yet."""

    attributes: int
    cluster: int
    size: int
    mtime: int


@dataclass(slots=True)
class Vfat:
    blocks: Blocks
    boot: BootSector
    mask: int
    _table: RecordReader = field(init=False)
    _found: dict[int, _FatEntry] = field(default_factory=dict)
    _metadata: dict[Metadata, Metadata] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._table = RecordReader(self.blocks)

    @property
    def kind(self) -> str:
        return "vfat"

    @property
    def label(self) -> str:
        return self.boot.label

    @property
    def uuid(self) -> str:
        return self.boot.uuid

    def tree(self, selection: Selection = select_all) -> Tree:
        self._found[_ROOT] = _FatEntry(_DIRECTORY, self.boot.root_cluster, 0, 0)
        try:
            return FilesystemTreeReader(self, FilesystemLimits.of(self.blocks.size), selection).tree(_ROOT)
        except FormatError as error:
            raise FormatError(error.message, error.hint or REMEDY) from error

    def node(self, number: int) -> Node:
        found = self._found[number]
        directory = found.attributes & _DIRECTORY
        mode = 0o777 & ~self.mask
        if found.attributes & _READ_ONLY and not directory:
            mode &= ~0o222
        new = Metadata(mode, mtime=found.mtime)
        metadata = self._metadata.setdefault(new, new)
        if directory:
            return make_node(stat.S_IFDIR, metadata)
        del self._found[number]
        return make_node(stat.S_IFREG, metadata, content=_VfatContent(self, found.cluster, found.size))

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:
        cluster = self._found.pop(number).cluster
        boot = self.boot
        if number == _ROOT and not cluster:
            base = boot.root_place
            data = read_exactly(self.blocks, base, boot.root_size, "the root directory")
            runs: list[DataRun] = [(0, base, len(data))]
        else:
            runs = self.runs(cluster, None)
            limits.read(runs[-1][0] + runs[-1][2])
            data = read_runs(self.blocks, runs[-1][0] + runs[-1][2], runs)
        name = LongName()
        for at in range(0, len(data), 32):
            entry = data[at : at + 32]
            if not entry[0]:
                return
            if entry[0] == _DELETED:
                name = LongName()
                continue
            if entry[11] & _LONG_MASK == _LONG:
                name.add(entry)
                continue
            short, attributes, case, _, high, time, date, low, size = _ENTRY.unpack(entry)
            shown = name.of(short) or short_name(short, case)
            name = LongName()
            if attributes & _LABEL or short[:2] in {b". ", b".."}:
                continue
            place = _locate_entry(runs, at)
            target = low | (high << 16 if boot.bits == 32 else 0)
            # A directory is identified by its cluster, so that a second entry for it is detected.
            key = target << 64 if attributes & _DIRECTORY else place
            self._found[key] = _FatEntry(attributes, target, size, _decode_time(date, time))
            yield shown, key

    def runs(self, cluster: int, size: int | None) -> list[DataRun]:
        """The runs of a chain of clusters, up to `size` bytes or to its end.

        Raises FormatError.
        """
        boot = self.boot
        wanted = None if size is None else -(-size // boot.cluster_size)
        runs: list[DataRun] = []
        count = 0
        while wanted is None or count < wanted:
            if not 2 <= cluster < boot.clusters + 2:
                if wanted is None and count and cluster >= boot.last:
                    break
                raise FormatError(
                    f"a cluster chain is damaged: it leads to cluster {cluster} of {boot.clusters}", REMEDY
                )
            if count >= boot.clusters or (wanted is None and count * boot.cluster_size >= _MOST_DIRECTORY):
                raise FormatError("a cluster chain does not end", REMEDY)
            place = boot.data + (cluster - 2) * boot.cluster_size
            add_run(runs, count * boot.cluster_size, place, boot.cluster_size)
            cluster = self._next_cluster(cluster)
            count += 1
        return runs

    def _next_cluster(self, cluster: int) -> int:
        boot = self.boot
        place = boot.table + cluster * boot.bits // 8
        size = 4 if boot.bits == 32 else 2
        found = int.from_bytes(self._table.read(place, size, "the cluster table"), "little")
        if boot.bits == 12:
            return found >> 4 if cluster & 1 else found & 0xFFF
        return found & 0x0FFFFFFF if boot.bits == 32 else found


def _locate_entry(runs: list[DataRun], at: int) -> int:
    """The offset in the volume of a byte of a directory."""
    return next(place + at - start for start, place, length in runs if start <= at < start + length)


def _decode_time(date: int, time: int) -> int:
    """Seconds since 1970. FAT records no time zone; UTC is assumed."""
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, max(1, date & 31)
    if not 1 <= month <= 12:
        return 0
    return calendar.timegm((year, month, day, time >> 11, time >> 5 & 63, 2 * (time & 31)))
