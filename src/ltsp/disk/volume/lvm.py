"""Read LVM2: physical volumes, and the linear and striped logical volumes on them.

Layout: lvm2's lib/format_text/layout.h. dissect.volume is not used: it concatenates the parts of a striped volume,
verifies no checksums, and reads only one metadata area and no text that wraps around its end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.disk import probe
from ltsp.disk.mapping_tables import SECTOR_SIZE
from ltsp.disk.volume import lvm_text
from ltsp.disk.volume.lvm_text import Section
from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, MemoryBlocks
from ltsp.storage.extents import Extent, MappedBlocks, chain_extents
from ltsp.tree.name import decode, printable

_LABEL: Final = struct.Struct("<8sQII8s")
_AREA_LOCATION: Final = struct.Struct("<QQ")
_AREA: Final = struct.Struct("<I16sIQQ")
_TEXT: Final = struct.Struct("<QQII")
_AREA_MAGIC: Final = b" LVM2 x[5A%r0N*>"
_AREA_HEADER_SIZE: Final = 512
_CRC_SEED: Final = 0xF597A6CF
_MAX_TEXT_SIZE: Final = 2 << 20
"""Bytes of a metadata text; that of a group of a thousand volumes has 1 MiB."""
_MAX_AREAS: Final = 2
"""At the start and at the end of a volume."""
_IGNORED_FLAG: Final = 1
_LABEL_SECTORS: Final = 4


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A physical volume, with the metadata texts of its group."""

    blocks: Blocks
    uuid: str
    """32 characters, without dashes."""
    texts: tuple[bytes, ...]
    """The metadata text of each valid area."""


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    group: str
    name: str
    uuid: str
    """As in device-mapper: the UUID of the group, then its own; 64 characters without dashes."""
    blocks: Blocks
    fault: str = ""
    """Why it cannot be read; empty if it can."""


def read_physical_volume(blocks: Blocks) -> PhysicalVolume:
    """Read a volume whose label was found.

    Raises FormatError if the label is damaged.
    """
    for sector in range(_LABEL_SECTORS):
        data = blocks.read_at(sector * SECTOR_SIZE, SECTOR_SIZE)
        if len(data) < SECTOR_SIZE or data[24:32] != b"LVM2 001":
            continue
        magic, own, total, start, _kind = _LABEL.unpack_from(data)
        if magic == b"LABELONE" and own == sector and start <= SECTOR_SIZE - 40 and _crc32(data[20:]) == total:
            break
    else:
        raise FormatError("its LVM label is damaged")
    uuid = decode(data[start : start + 32])
    pairs = _parse_areas(data[start + 40 :])
    after_data = pairs.index((0, 0)) + 1 if (0, 0) in pairs else len(pairs)
    areas = [pair for pair in pairs[after_data:] if pair != (0, 0)][:_MAX_AREAS]
    texts = (_read_metadata_text(blocks, place, size) for place, size in areas)
    return PhysicalVolume(blocks, uuid, tuple(text for text in texts if text is not None))


def _parse_areas(data: bytes) -> list[tuple[int, int]]:
    """Two lists of offset and size, each terminated by zeros."""
    found = []
    zeros = 0
    for pair in _AREA_LOCATION.iter_unpack(data[: len(data) // 16 * 16]):
        zeros += pair == (0, 0)
        if zeros == 2:
            break
        found.append((pair[0], pair[1]))
    return found


def _read_metadata_text(blocks: Blocks, place: int, size: int) -> bytes | None:
    """The text of an area; None if it is damaged, empty or not in use."""
    header = blocks.read_at(place, _AREA_HEADER_SIZE)
    if len(header) < _AREA_HEADER_SIZE:
        return None
    total, magic, version, own, _size = _AREA.unpack_from(header)
    if magic != _AREA_MAGIC or version != 1 or own != place or _crc32(header[4:]) != total:
        return None
    start, length, text_sum, flags = _TEXT.unpack_from(header, _AREA.size)
    if (
        not start
        or flags & _IGNORED_FLAG
        or not length <= min(size, _MAX_TEXT_SIZE)
        or not _AREA_HEADER_SIZE <= start < size
    ):
        return None
    # The area after the header is a ring buffer.
    first = min(length, size - start)
    data = blocks.read_at(place + start, first) + blocks.read_at(place + _AREA_HEADER_SIZE, length - first)
    return data if len(data) == length and _crc32(data) == text_sum else None


def _crc32(data: bytes) -> int:
    """CRC-32 with LVM's own initial value, not inverted."""
    return zlib.crc32(data, _CRC_SEED ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class VolumeGroups:
    """The contents of the volume groups of some physical volumes."""

    volumes: tuple[LogicalVolume, ...]
    """The visible ones."""
    faults: tuple[str, ...]
    missing: tuple[str, ...]
    """Physical volumes that were not found, for messages."""


def assemble_groups(volumes: Sequence[PhysicalVolume]) -> VolumeGroups:
    """All groups to which these belong."""
    newest: dict[str, tuple[int, str, Section]] = {}
    texts = dict.fromkeys(text for volume in volumes for text in volume.texts)
    faults: list[str] = []
    for text in texts:
        try:
            name, group = _parse_group(lvm_text.parse(text))
            sequence, uuid = lvm_text.get_number(group, "seqno"), lvm_text.get_text(group, "id")
        except FormatError as error:
            faults.append(error.message)
            continue
        if uuid not in newest or newest[uuid][0] < sequence:
            newest[uuid] = (sequence, name, group)
    missing: list[str] = []
    if volumes and not newest:
        faults.append(
            "no LVM metadata found on any physical volume: it is damaged, or on another disk (add it with ,disk=FILE)"
        )
        missing.append("the LVM metadata of its volume group")
    present = {volume.uuid: volume.blocks for volume in volumes}
    found: list[LogicalVolume] = []
    for _sequence, name, group in newest.values():
        try:
            pvs = _PhysicalVolumes.of(group, present)
            missing += (
                f"the physical volume {printable(each)}, in the volume group {printable(name)}"
                for each in pvs.missing.values()
            )
            found += _make_visible_volumes(name, group, pvs)
        except FormatError as error:
            faults.append(error.message)
    return VolumeGroups(tuple(found), tuple(faults), tuple(missing))


def _make_visible_volumes(name: str, group: Section, pvs: _PhysicalVolumes) -> list[LogicalVolume]:
    members = lvm_text.get_section(group, "logical_volumes")
    snapshots = _find_unreadable_volumes(members)
    identity = lvm_text.get_text(group, "id")
    return [
        _make_logical_volume(name, identity, key, value, pvs, snapshots.get(key, ""))
        for key, value in members.items()
        if isinstance(value, dict) and "VISIBLE" in lvm_text.get_list(value, "status")
    ]


def _find_unreadable_volumes(volumes: Section) -> dict[str, str]:
    """Volumes whose own data is incomplete, with the reason; a hidden volume names them."""
    found = {}
    for volume in volumes.values():
        for segment in volume.values() if isinstance(volume, dict) else ():
            if isinstance(segment, dict) and segment.get("type") == "snapshot":
                found[lvm_text.get_text(segment, "cow_store")] = "it is a snapshot; only its origin can be read"
                if "merging_store" in segment:
                    found[lvm_text.get_text(segment, "merging_store")] = "it is a snapshot"
                    found[lvm_text.get_text(segment, "origin")] = "a snapshot is being merged into it"
    return found


def _parse_group(text: Section) -> tuple[str, Section]:
    for name, value in text.items():
        if isinstance(value, dict):
            return name, value
    raise FormatError("the LVM metadata is damaged: it has no volume group")


@dataclass(frozen=True, slots=True)
class _PhysicalVolumes:
    """The physical volumes of a group, by their names in the group."""

    extent_size: int
    """Bytes."""
    data_offsets: dict[str, int]
    """Bytes before the first extent."""
    blocks: dict[str, Blocks]
    missing: dict[str, str]
    """Descriptions of the missing ones, for messages."""

    @classmethod
    def of(cls, group: Section, present: dict[str, Blocks]) -> _PhysicalVolumes:
        extent = lvm_text.get_number(group, "extent_size") * SECTOR_SIZE
        if not extent:
            raise FormatError("the LVM metadata is damaged: the extent size is zero")
        pvs = cls(extent, {}, {}, {})
        for key, value in lvm_text.get_section(group, "physical_volumes").items():
            if not isinstance(value, dict):
                continue
            uuid = lvm_text.get_text(value, "id")
            pvs.data_offsets[key] = lvm_text.get_number(value, "pe_start") * SECTOR_SIZE
            blocks = present.get(uuid.replace("-", ""))
            if blocks is None:
                device = lvm_text.get_text(value, "device")
                pvs.missing[key] = f"{uuid}{f', last seen as {device}' if device else ''}"
            else:
                pvs.blocks[key] = blocks
        return pvs


def _make_logical_volume(
    group: str, identity: str, name: str, volume: Section, pvs: _PhysicalVolumes, fault: str
) -> LogicalVolume:
    """One volume; its faults do not affect the others."""
    uuid = (identity + lvm_text.get_text(volume, "id")).replace("-", "")
    no_data = MemoryBlocks(b"")
    if fault:
        return LogicalVolume(group, name, uuid, no_data, fault)
    try:
        return LogicalVolume(group, name, uuid, _map_segments(volume, pvs))
    except FormatError as error:
        return LogicalVolume(group, name, uuid, no_data, error.message)


@dataclass(frozen=True, slots=True)
class _Stripes:
    """A segment that is spread over several physical volumes."""

    size: int
    """Bytes of a stripe."""
    data_offsets: tuple[tuple[Blocks, int], ...]
    """Where the segment starts on each physical volume, in bytes."""

    def locate(self, offset: int, size: int) -> Extent:
        number, within = divmod(offset, self.size)
        row, column = divmod(number, len(self.data_offsets))
        blocks, start = self.data_offsets[column]
        return Extent(min(size, self.size - within), blocks, start + row * self.size + within)


def _map_segments(volume: Section, pvs: _PhysicalVolumes) -> Blocks:
    segments = sorted(
        (_parse_segment(value, pvs) for value in volume.values() if isinstance(value, dict)),
        key=lambda segment: segment[0],
    )
    end = 0
    for start, extent in segments:
        if start != end or not extent.size:
            raise FormatError("its LVM segments are not contiguous")
        end += extent.size
    return chain_extents([extent for _, extent in segments])


def _parse_segment(segment: Section, pvs: _PhysicalVolumes) -> tuple[int, Extent]:
    """Its offset in the logical volume in bytes, and where it is."""
    kind = lvm_text.get_text(segment, "type")
    if kind.partition("+")[0] not in {"striped", "linear"}:
        what = f"its type is {printable(kind)}; only linear and striped volumes can be read"
        raise FormatError(f"{what}: {probe.get_remedy(probe.LVM_KIND)}")
    count = lvm_text.get_number(segment, "extent_count")
    stripes = lvm_text.get_list(segment, "stripes")
    width = len(stripes) // 2
    if not width or len(stripes) % 2 or width != lvm_text.get_number(segment, "stripe_count", 1) or count % width:
        raise FormatError("one of its segments is damaged")
    size = count * pvs.extent_size
    stripe = lvm_text.get_number(segment, "stripe_size", 0) * SECTOR_SIZE if width > 1 else max(size, 1)
    if not stripe or (width > 1 and size // width % stripe):
        raise FormatError("one of its segments is damaged")
    places = tuple(
        _locate_stripe(stripes[at], stripes[at + 1], count // width, pvs) for at in range(0, len(stripes), 2)
    )
    start = lvm_text.get_number(segment, "start_extent") * pvs.extent_size
    if width == 1:
        return start, Extent(size, *places[0])
    return start, Extent(size, MappedBlocks(size, _Stripes(stripe, places).locate))


def _locate_stripe(name: int | str, extent: int | str, count: int, pvs: _PhysicalVolumes) -> tuple[Blocks, int]:
    if not isinstance(name, str) or not isinstance(extent, int) or extent < 0:
        raise FormatError("one of its segments is damaged")
    if name in pvs.missing:
        raise FormatError(f"part of it is on another disk ({printable(pvs.missing[name])})")
    if name not in pvs.blocks:
        raise FormatError(
            f"its metadata refers to the physical volume {printable(name)}, which its volume group does not list"
        )
    start = pvs.data_offsets[name] + extent * pvs.extent_size
    if start + count * pvs.extent_size > pvs.blocks[name].size:
        raise FormatError("it extends past the end of its physical volume")
    return pvs.blocks[name], start
