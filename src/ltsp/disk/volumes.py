"""Find everything on disks that may hold a file system: partitions, LVM and RAID1 volumes, whole disks; unlock LUKS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ltsp.disk import probe
from ltsp.disk.image import Disk
from ltsp.disk.partition_table import Partition, read_partition_table
from ltsp.disk.volume import luks, lvm, md
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import BlockRange
from ltsp.tree.name import printable

_MAX_VOLUMES: Final = 4096
"""Volumes on all disks together."""
_MAX_LVM_TEXT_SIZE: Final = 4 << 20
"""Bytes of distinct LVM metadata texts; this many take two seconds to parse."""
_MAX_DEPTH: Final = 3
"""Levels of nesting: a table in a RAID in a partition."""
_MAX_UNLOCKED: Final = 16
"""Encrypted volumes; deriving the key of each takes a second or more."""

FindKey = Callable[[bytes], bytes]
"""The volume key of a LUKS volume, from the area before its encrypted data. Raises LtspError."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Bytes that may hold a file system."""

    name: str
    """`partition 2`, `vg/root`, `RAID1 host:root`, `whole disk`; with several disks, `disk 2, partition 1`. Not safe to
    print."""
    blocks: Blocks
    kind: str
    """What it holds: a kind from ltsp.disk.probe."""
    disk: int = 0
    """Index of its disk, from 0."""
    number: int = 0
    """The number for `partition=`, or 0 if it is not a partition."""
    offset: int = 0
    """Bytes before it on its disk; valid only if `is_plain_range`."""
    is_plain_range: bool = True
    """Whether it is a plain range of its disk."""
    type: str = ""
    """Partition type: `83`, or a GUID."""
    label: str = ""
    """The partition's name in a GPT; not safe to print."""
    devices: tuple[str, ...] = ()
    """Names that fstab(5) may use for it, besides those of its file system: `PARTUUID=…`, `/dev/vg/root`."""
    encrypted: tuple[str, ...] = ()
    """Names that crypttab(5) may use for the encrypted volume around it."""
    fault: str = ""
    """Why it cannot be read, one line, safe to print; empty if it can."""

    @property
    def size(self) -> int:
        return self.blocks.size


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes of some disks, in the order of the disks and of their tables, logical volumes last."""

    volumes: tuple[Volume, ...]
    tables: tuple[str, ...]
    """The table of each disk: `GPT`, `MBR`, `none`."""
    warnings: tuple[str, ...] = ()
    """One line each, safe to print."""
    missing: tuple[str, ...] = ()
    """What belongs to these disks but is on none of them, for messages; safe to print."""

    @classmethod
    def of(cls, disks: Sequence[Disk], find_key: FindKey | None = None) -> Volumes:
        """Encrypted volumes are unlocked if `find_key` is given.

        Raises FormatError if a table is damaged, SourceError if a disk cannot be read.
        """
        search = _VolumeSearch(len(disks) > 1, find_key)
        tables = tuple(search.add_disk(number, disk) for number, disk in enumerate(disks))
        while search.mirror_members or search.physical_volumes:
            search.assemble_mirrors()
            search.assemble_logical_volumes()
        return cls(tuple(search.found), tables, tuple(search.warnings), tuple(search.missing))


@dataclass(frozen=True, slots=True)
class _MirrorMember:
    """A RAID1 member that holds the data."""

    volume: Volume
    member: md.MdMember
    depth: int


@dataclass(slots=True)
class _VolumeSearch:
    several_disks: bool
    find_key: FindKey | None
    unlocked: int = 0
    found: list[Volume] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    physical_volumes: list[lvm.PhysicalVolume] = field(default_factory=list)
    mirror_members: list[_MirrorMember] = field(default_factory=list)
    texts: dict[bytes, bytes] = field(default_factory=dict)

    def add_disk(self, number: int, disk: Disk) -> str:
        container = Volume("whole disk", disk.blocks, "", number)
        return self._add_table(
            replace(container, name=f"disk {number + 1}") if self.several_disks else container, disk.sector_size, 0
        )

    def _add_table(self, container: Volume, sector_size: int, depth: int) -> str:
        """Add a disk or the data of a RAID, which may have a partition table; return the kind of the table."""
        table, partitions = read_partition_table(container.blocks, sector_size, self.warnings)
        if not partitions and table == "none":
            self._add_volume(container, depth)
            return table
        for partition in partitions:
            self._add_volume(
                _make_partition_volume(container, partition, top=depth == 0, several_disks=self.several_disks), depth
            )
        return table

    def _add_volume(self, volume: Volume, depth: int) -> None:
        """Add a volume without a table, and what is in it."""
        if len(self.found) >= _MAX_VOLUMES:
            raise FormatError(f"it has more than {_MAX_VOLUMES} volumes")
        member = md.read_superblock(volume.blocks)
        if member is None:
            volume = replace(volume, kind=probe.detect_kind(volume.blocks))
        else:
            volume = replace(volume, kind=probe.MD, fault=member.fault or volume.fault)
        self.found.append(volume)
        if volume.fault:
            return
        if member is not None:
            if member.offset + member.size > volume.size:
                self.found[-1] = replace(volume, fault="its RAID data extends beyond the end of the volume")
            elif depth < _MAX_DEPTH:
                self.mirror_members.append(_MirrorMember(volume, member, depth))
        elif volume.kind == probe.LUKS:
            self._unlock(volume, depth)
        elif volume.kind == probe.LVM:
            try:
                self.physical_volumes.append(self._read_physical_volume(volume.blocks))
            except FormatError as error:
                self.found[-1] = replace(volume, fault=error.message)

    def _unlock(self, volume: Volume, depth: int) -> None:
        """Replace the encrypted volume that was found last by its content."""
        if self.find_key is None or depth >= _MAX_DEPTH:
            return
        self.unlocked += 1
        try:
            if self.unlocked > _MAX_UNLOCKED:
                raise SourceError(f"there are more than {_MAX_UNLOCKED} encrypted volumes")
            header = luks.LuksHeader.parse(volume.blocks)
            blocks = header.open_decrypted(volume.blocks, self.find_key(header.read_header_area(volume.blocks)))
        except LtspError as error:
            self.found[-1] = replace(volume, fault=str(error))
            return
        self.found.pop()
        inside = replace(
            volume,
            name=f"{volume.name}, unlocked",
            blocks=blocks,
            is_plain_range=False,
            devices=(f"/dev/mapper/luks-{header.uuid}",),
            encrypted=(*volume.devices, f"UUID={header.uuid}"),
        )
        self._add_table(inside, header.sector_size, depth + 1)

    def _read_physical_volume(self, blocks: Blocks) -> lvm.PhysicalVolume:
        """Each distinct metadata text is kept only once."""
        found = lvm.read_physical_volume(blocks)
        texts = tuple(self.texts.setdefault(text, text) for text in found.texts)
        if sum(map(len, self.texts)) > _MAX_LVM_TEXT_SIZE:
            raise FormatError("the LVM metadata is too large")
        return replace(found, texts=texts)

    def assemble_mirrors(self) -> None:
        """Add the data of each RAID1 from its most recent member; it may hold another RAID1."""
        while self.mirror_members:
            depth = self.mirror_members[0].depth
            array = self.mirror_members[0].member.array_uuid
            array_members = [each for each in self.mirror_members if each.member.array_uuid == array]
            self.mirror_members = [each for each in self.mirror_members if each.member.array_uuid != array]
            best = max(array_members, key=lambda each: each.member.events)
            if len({each.member.events for each in array_members}) > 1:
                name, source = printable(best.member.name or best.member.array_uuid), printable(best.volume.name)
                self.warnings.append(
                    f"RAID1 {name}: its members are out of sync; reading the one updated last, {source}"
                )
            self._add_table(_make_mirror_volume(best.volume, best.member), 0, depth + 1)

    def assemble_logical_volumes(self) -> None:
        groups = lvm.assemble_groups(self.physical_volumes)
        self.physical_volumes = []
        self.warnings += dict.fromkeys(groups.faults)
        self.missing += groups.missing
        for volume in groups.volumes:
            if len(self.found) >= _MAX_VOLUMES:
                raise FormatError(f"it has more than {_MAX_VOLUMES} volumes")
            group, name = volume.group, volume.name
            mapper = f"{group.replace('-', '--')}-{name.replace('-', '--')}"
            kind, fault = _probe_logical_volume(volume)
            by_id = (f"/dev/disk/by-id/dm-name-{mapper}", f"/dev/disk/by-id/dm-uuid-LVM-{volume.uuid}")
            devices = (f"/dev/{group}/{name}", f"/dev/mapper/{mapper}", *by_id)
            held = Volume(f"{group}/{name}", volume.blocks, kind, is_plain_range=False, devices=devices, fault=fault)
            self.found.append(held)
            if kind == probe.LUKS:
                self._unlock(held, 0)


def _make_mirror_volume(volume: Volume, member: md.MdMember) -> Volume:
    name = member.name.rpartition(":")[2]
    devices = (f"/dev/md/{name}" if name else "", f"/dev/md{name}" if name.isdecimal() else "")
    return Volume(
        f"RAID1 {member.name or member.array_uuid}",
        BlockRange(volume.blocks, member.offset, member.size),
        "",
        volume.disk,
        offset=volume.offset + member.offset,
        devices=tuple(filter(None, devices)),
    )


def _probe_logical_volume(volume: lvm.LogicalVolume) -> tuple[str, str]:
    """Its kind, and why it cannot be read."""
    if volume.fault:
        return probe.UNKNOWN, volume.fault
    try:
        return probe.detect_kind(volume.blocks), ""
    except LtspError as error:
        return probe.UNKNOWN, error.message


def _make_partition_volume(container: Volume, partition: Partition, *, top: bool, several_disks: bool) -> Volume:
    partition_name = f"partition {partition.number}"
    blocks = BlockRange(container.blocks, partition.offset, partition.size)
    is_truncated = partition.offset + partition.size > container.size
    devices = (f"PARTUUID={partition.uuid}", f"PARTLABEL={partition.name}" if partition.name else "")
    return replace(
        container,
        name=partition_name if top and not several_disks else f"{container.name}, {partition_name}",
        blocks=blocks,
        number=partition.number if top else 0,
        offset=container.offset + partition.offset,
        type=partition.type,
        label=partition.name,
        devices=tuple(filter(None, devices)),
        fault="it extends beyond the end of the disk: the disk is truncated, or one of several" if is_truncated else "",
    )
