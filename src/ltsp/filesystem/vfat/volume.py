"""Read FAT12, FAT16 and FAT32 with long names, as a mount of the EFI system partition shows them.

Linux fs/fat/inode.c (fat_read_bpb), dir.c, namei_vfat.c

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
from ltsp.filesystem.tree_reader import (
    FilesystemLimits,
    FilesystemTreeReader,
    RecordReader,
    add_remedy,
    make_node,
    translate_damage,
)
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
_MAX_DIRECTORY_SIZE = 2 << 20
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
    def stored_size(self) -> int:
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
    _pending_entries: dict[int, _FatEntry] = field(default_factory=dict)
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
        self._pending_entries[_ROOT] = _FatEntry(_DIRECTORY, self.boot.root_cluster, 0, 0)
        with add_remedy(REMEDY):
            return FilesystemTreeReader(self, FilesystemLimits.of(self.blocks.size), selection).tree(_ROOT)

    def node(self, number: int) -> Node:
        found = self._pending_entries[number]
        directory = found.attributes & _DIRECTORY
        mode = 0o777 & ~self.mask
        if found.attributes & _READ_ONLY and not directory:
            mode &= ~0o222
        new = Metadata(mode, mtime=found.mtime)
        metadata = self._metadata.setdefault(new, new)
        if directory:
            return make_node(stat.S_IFDIR, metadata)
        del self._pending_entries[number]
        return make_node(stat.S_IFREG, metadata, content=_VfatContent(self, found.cluster, found.size))

    def entries(self, number: int, limits: FilesystemLimits) -> Iterator[tuple[bytes, int]]:
        cluster = self._pending_entries.pop(number).cluster
        boot = self.boot
        if number == _ROOT and not cluster:
            base = boot.root_offset
            data = read_exactly(self.blocks, base, boot.root_size, "the root directory")
            runs: list[DataRun] = [(0, base, len(data))]
        else:
            runs = self.runs(cluster, None)
            limits.count_directory_bytes(runs[-1][0] + runs[-1][2])
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
            shown = name.match_short_name(short) or decode_short_name(short, case)
            name = LongName()
            if attributes & _LABEL or short[:2] in {b". ", b".."}:
                continue
            place = _locate_entry(runs, at)
            target = low | (high << 16 if boot.bits == 32 else 0)
            # A directory is identified by its cluster, so that a second entry for it is detected.
            key = target << 64 if attributes & _DIRECTORY else place
            self._pending_entries[key] = _FatEntry(attributes, target, size, _decode_time(date, time))
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
            if not 2 <= cluster < boot.cluster_count + 2:
                if wanted is None and count and cluster >= boot.end_of_chain:
                    break
                raise FormatError(
                    f"a cluster chain is damaged: it leads to cluster {cluster} of {boot.cluster_count}", REMEDY
                )
            if count >= boot.cluster_count or (wanted is None and count * boot.cluster_size >= _MAX_DIRECTORY_SIZE):
                raise FormatError("a cluster chain does not end", REMEDY)
            place = boot.data_offset + (cluster - 2) * boot.cluster_size
            add_run(runs, count * boot.cluster_size, place, boot.cluster_size)
            cluster = self._next_cluster(cluster)
            count += 1
        return runs

    def _next_cluster(self, cluster: int) -> int:
        boot = self.boot
        place = boot.fat_offset + cluster * boot.bits // 8
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


_PARAMETERS = struct.Struct("<HBHBHHBH8xI")
_MAX_FAT12_CLUSTERS = 4084
_UNNAMED = frozenset({"", "NO NAME"})


@dataclass(frozen=True, slots=True)
class BootSector:
    """All offsets and sizes are in bytes of the volume."""

    bits: int
    """Bits of a table entry: 12, 16 or 32."""
    cluster_size: int
    cluster_count: int
    fat_offset: int
    root_offset: int
    root_size: int
    """Size of the root directory, if it is outside of the clusters."""
    root_cluster: int
    """First cluster of the root directory, if it is in clusters; else 0."""
    data_offset: int
    """Offset of the first cluster, which has the number 2."""
    label: str
    uuid: str

    @property
    def end_of_chain(self) -> int:
        """Table entries from this number on end a chain."""
        return {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.bits]

    @classmethod
    def parse(cls, raw: bytes, volume: int) -> BootSector:
        """Raises FormatError if it is not a boot sector, or does not fit a volume of `volume` bytes."""
        if len(raw) < 512 or raw[510:512] != b"\x55\xaa" or raw[0] not in {0xEB, 0xE9}:
            raise FormatError("not a vfat file system")
        sector, per_cluster, reserved, tables, entries, total, media, length, large = _PARAMETERS.unpack_from(raw, 11)
        total = total or large
        wide = not length
        if wide:
            (length,) = struct.unpack_from("<I", raw, 36)
        sound = (
            sector in {512, 1024, 2048, 4096}
            and per_cluster
            and not per_cluster & (per_cluster - 1)
            and reserved
            and 1 <= tables <= 4
            and length
            and (media >= 0xF8 or media == 0xF0)
        )
        if not sound:
            raise FormatError("not a vfat file system")
        root = reserved + tables * length
        root_sectors = -(-entries * 32 // sector)
        data = root + root_sectors
        clusters = (total - data) // per_cluster if total > data else 0
        bits = 32 if wide else 12 if clusters <= _MAX_FAT12_CLUSTERS else 16
        clusters = min(clusters, length * sector * 8 // bits - 2)
        if clusters < 1:
            raise FormatError("the boot sector of the vfat file system is damaged")
        if total * sector > volume:
            raise FormatError(
                f"the vfat file system is {total * sector} bytes long, but the volume only {volume}",
                "copy it again: it is truncated",
            )
        extended = 66 if wide else 38
        named = raw[extended] in {0x28, 0x29}
        serial = raw[extended + 1 : extended + 5][::-1].hex().upper() if named else ""
        label = raw[extended + 5 : extended + 16].decode("cp437").rstrip() if raw[extended] == 0x29 else ""
        return cls(
            bits=bits,
            cluster_size=per_cluster * sector,
            cluster_count=clusters,
            fat_offset=reserved * sector,
            root_offset=root * sector,
            root_size=entries * 32,
            root_cluster=int.from_bytes(raw[44:48], "little") if wide else 0,
            data_offset=data * sector,
            label="" if label in _UNNAMED else label,
            uuid=f"{serial[:4]}-{serial[4:]}" if serial else "",
        )


_LAST = 0x40
_LOWER_BASE, _LOWER_SUFFIX = 0x08, 0x10
_PARTS = (slice(1, 11), slice(14, 26), slice(28, 32))
_MAX_PARTS = 20


@dataclass(slots=True)
class LongName:
    """Collects the entries of a long name, last part first, until the entry to which it belongs."""

    parts: list[bytes] = field(default_factory=list)
    expected: int = 0
    checksum: int = 0

    def add(self, entry: bytes) -> None:
        """Add an entry; one out of sequence starts over, as in the kernel."""
        order = entry[0] & ~_LAST
        if entry[0] & _LAST:
            self.parts, self.expected, self.checksum = [], order, entry[13]
        if not 0 < order <= _MAX_PARTS or order != self.expected or entry[13] != self.checksum:
            self.parts, self.expected = [], 0
            return
        self.parts.insert(0, b"".join(entry[part] for part in _PARTS))
        self.expected -= 1

    def match_short_name(self, short: bytes) -> bytes:
        """The name, if it is complete and belongs to this short name; else empty."""
        if not self.parts or self.expected or _checksum(short) != self.checksum:
            return b""
        characters = b"".join(self.parts).decode("utf-16-le", "replace")
        return characters.split("\0", 1)[0].encode("utf-8", "replace")


def decode_short_name(raw: bytes, case: int) -> bytes:
    """`BOOTX64 EFI` as `BOOTX64.EFI`, in lower case if the entry says so."""
    if raw[0] == 0x05:
        raw = b"\xe5" + raw[1:]
    base, suffix = raw[:8].decode("cp437").rstrip(" "), raw[8:].decode("cp437").rstrip(" ")
    if case & _LOWER_BASE:
        base = base.lower()
    if case & _LOWER_SUFFIX:
        suffix = suffix.lower()
    return (f"{base}.{suffix}" if suffix else base).encode()


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total
