"""Partition tables, RAID members and LVM give the same volumes as their own tools."""

from __future__ import annotations

import io
import json
import os
import random
import re
import struct
import subprocess
import zlib
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from corpus import luks
from disk import tables
from disk.tables import EXTENT, MIB, group, marked, physical_volume, striped, volume
from ltsp.disk.image import Disk, open_disk
from ltsp.disk.probe import EXT, describe_kind, detect_kind
from ltsp.disk.volume import lvm_text
from ltsp.disk.volumes import Volume, Volumes
from ltsp.errors import FormatError
from ltsp.storage.blocks import MemoryBlocks

HEADER = {"gpt": "GPT", "dos": "MBR"}


def look(*disks: bytes | Path) -> Volumes:
    return Volumes.of([open_disk(io.BytesIO(disk if isinstance(disk, bytes) else disk.read_bytes())) for disk in disks])


def one(volumes: Volumes, name: str) -> Volume:
    return next(volume for volume in volumes.volumes if volume.name == name)


def names(volumes: Volumes) -> list[str]:
    return [volume.name for volume in volumes.volumes]


def content(volume: Volume) -> bytes:
    return volume.blocks.read_at(0, volume.size)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(b"")
    os.truncate(path, 24 * MIB)
    return path


TABLES = {
    "primary partitions": "label: dos\n,4M,83,*\n,4M,82\n,,8e\n",
    "logical partitions": "label: dos\n,4M,83,*\n,17M,5\n,2M,83\n,3M,82\n,2M,fd\n",
    "a Linux extended partition": "label: dos\n,2M,85\n,1M,83\n,,83\n",
    "a gap among the numbers": "label: dos\n3 : start=4M,size=2M,type=83\n1 : start=8M,size=1M,type=c\n",
    "a GPT": 'label: gpt\nsize=2M,type=U,name="EFI system"\nsize=4M,type=L,name="Wurzel ü"\ntype=S\n',
    "a GPT with gaps": "label: gpt\n5 : start=2M,size=2M,type=L\n3 : start=8M,size=2M,type=L\n",
    "a large GPT": "label: gpt\ntable-length: 256\n200 : start=2M,size=2M,type=L\n",
}


@pytest.mark.oracle
@pytest.mark.parametrize("what", TABLES)
def test_partitions_are_those_that_sfdisk_sees(what, disk):
    tables.sfdisk(disk, TABLES[what])
    expected = json.loads(tables.listed(disk))["partitiontable"]
    unit = 512
    found = look(disk)
    assert found.tables == (HEADER[expected["label"]],)
    wanted = [
        (
            int(re.search(r"(\d+)$", entry["node"])[1]),
            entry["start"] * unit,
            entry["size"] * unit,
            entry["type"].lower().zfill(2),
        )
        for entry in expected["partitions"]
        if entry["type"] not in {"5", "f", "85"}
    ]
    assert sorted((each.number, each.offset, each.size, each.type) for each in found.volumes) == sorted(wanted)
    assert {(each.kind, each.fault) for each in found.volumes} == {("nothing", "")}


@pytest.mark.oracle
def test_a_gpt_gives_names_and_identities(disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    expected = json.loads(tables.listed(disk))["partitiontable"]["partitions"]
    found = look(disk).volumes
    assert [each.label for each in found] == [entry.get("name", "") for entry in expected]
    for each, entry in zip(found, expected, strict=True):
        assert f"PARTUUID={entry['uuid'].lower()}" in each.devices
    assert "PARTLABEL=EFI system" in found[0].devices


@pytest.mark.oracle
def test_an_mbr_gives_identities(disk):
    tables.sfdisk(disk, "label: dos\nlabel-id: 0x12ab34cd\n,4M,83\n")
    assert look(disk).volumes[0].devices == ("PARTUUID=12ab34cd-01",)


def large_sectors(disk: Path) -> None:
    """sfdisk asks a device for the size of its sectors, and takes it for a file from an option of late only."""
    content = disk.read_bytes()
    header, entries = bytearray(content[512:604]), bytearray(content[1024 : 1024 + 128 * 128])
    at = 2 * MIB // 4096
    entries[32:48] = at.to_bytes(8, "little") + (at + 255).to_bytes(8, "little")
    last = len(content) // 4096 - 1
    header[24:40] = (1).to_bytes(8, "little") + last.to_bytes(8, "little")
    header[72:80] = (2).to_bytes(8, "little")
    header[88:92] = zlib.crc32(entries).to_bytes(4, "little")
    header[16:20] = bytes(4)
    header[16:20] = zlib.crc32(header).to_bytes(4, "little")
    new = bytearray(len(content))
    new[:512] = content[:512]
    new[4096 : 4096 + len(header)] = header
    new[8192 : 8192 + len(entries)] = entries
    disk.write_bytes(new)


@pytest.mark.oracle
def test_a_gpt_with_sectors_of_4096_bytes_is_found(disk):
    tables.sfdisk(disk, "label: gpt\nstart=2M,size=1M,type=L\n")
    large_sectors(disk)
    tables.put(disk, 2 * MIB, marked("ext"))
    (found,) = look(disk).volumes
    assert (found.offset, found.size, found.kind) == (2 * MIB, MIB, "ext")


DAMAGES = {
    "the header's sum": (512 + 20, b"x"),
    "an entry": (1024 + 40, b"\xee"),
    "the whole start but the protective table": (512, bytes(17 * 1024)),
    "the whole start": (0, bytes(18 * 1024)),
}


@pytest.mark.oracle
@pytest.mark.parametrize("what", DAMAGES)
def test_the_backup_is_used_if_the_primary_gpt_is_damaged(what, disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    expected = [(each.number, each.offset, each.size) for each in look(disk).volumes]
    tables.put(disk, *DAMAGES[what])
    found = look(disk)
    assert [(each.number, each.offset, each.size) for each in found.volumes] == expected
    assert "using the backup" in found.warnings[0]


@pytest.mark.oracle
def test_a_backup_is_found_where_a_disk_has_grown(disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    os.truncate(disk, 40 * MIB)
    tables.put(disk, 1024 + 40, b"\xee")
    assert len(look(disk).volumes) == 3


@pytest.mark.oracle
def test_a_gpt_that_is_damaged_twice_is_an_error(disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    tables.put(disk, 512 + 20, b"x")
    os.truncate(disk, 20 * MIB)
    with pytest.raises(FormatError, match="and so is the backup"):
        look(disk)


@pytest.mark.oracle
def test_a_hybrid_disk_has_the_partitions_of_its_gpt(disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    expected = names(look(disk))
    entry = bytes([0x80, 0, 2, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    tables.put(disk, 446 + 16, entry)
    found = look(disk)
    assert (found.tables, names(found)) == (("GPT",), expected)


@pytest.mark.oracle
def test_an_old_gpt_does_not_count_where_an_mbr_was_made_since(disk):
    tables.sfdisk(disk, TABLES["a GPT"])
    gpt = disk.read_bytes()[512 : 18 * 1024]
    tables.sfdisk(disk, TABLES["primary partitions"])
    tables.put(disk, 512, gpt)
    assert look(disk).tables == ("MBR",)


@pytest.mark.oracle
def test_a_loop_of_logical_partitions_is_an_error(disk):
    tables.sfdisk(disk, TABLES["logical partitions"])
    raw = bytearray(disk.read_bytes())
    extended = int.from_bytes(raw[446 + 16 + 8 : 446 + 16 + 12], "little") * 512
    raw[extended + 446 + 16 + 8 : extended + 446 + 16 + 12] = bytes(4)
    with pytest.raises(FormatError, match="loop"):
        look(bytes(raw))


@pytest.mark.oracle
def test_a_partition_beyond_the_end_is_named_and_the_others_are_read(disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    os.truncate(disk, 8 * MIB)
    found = look(disk).volumes
    assert [bool(each.fault) for each in found] == [False, True, True]
    assert "beyond the end of the disk" in found[2].fault


KINDS = ["ext", "xfs", "btrfs", "swap", "luks", "squashfs"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_system_on_the_whole_disk_is_a_volume(kind):
    (found,) = look(marked(kind)).volumes
    assert (found.name, found.kind, found.size, found.number) == ("whole disk", kind, MIB, 0)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_the_content_of_a_partition_is_identified(kind, disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    tables.put(disk, look(disk).volumes[1].offset, marked(kind))
    assert [each.kind for each in look(disk).volumes] == ["nothing", kind, "nothing"]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["mkfs.ext4", "-q", "-F"], "ext"),
        (["mkfs.xfs", "-q", "-f"], "xfs"),
        (["mkfs.btrfs", "-q", "-f"], "btrfs"),
        (["mkswap", "-q"], "swap"),
        (["mkfs.vfat"], "vfat"),
        (["mkfs.vfat", "-F", "32"], "vfat"),
        (["mkfs.ntfs", "-q", "-F", "-f"], "ntfs"),
        (["cryptsetup", "-q", "luksFormat", *luks.FAST, "--key-file", __file__], "luks"),
    ],
)
def test_what_mkfs_creates_is_identified(command, kind, disk):
    """Of those that this machine has; a FAT file system has the signature of a table of partitions too."""
    os.truncate(disk, 320 * MIB)
    try:
        subprocess.run([*command, disk], check=True, capture_output=True, timeout=60, cwd="/")
    except FileNotFoundError:
        disk.write_bytes(b"")
        return
    (found,) = look_at(disk).volumes
    assert (found.name, found.kind) == ("whole disk", kind)


def test_an_ext4_of_any_size_is_not_taken_for_another_file_system():
    """The number of its blocks, here 3.3 TiB of 4 KiB, lies where nilfs2 has its magic."""
    head = bytearray(4096)
    head[0x404:0x408] = struct.pack("<I", 0x34341234)
    head[0x438:0x43A] = b"\x53\xef"
    assert detect_kind(MemoryBlocks(bytes(head))) == EXT


def look_at(path: Path) -> Volumes:
    with path.open("rb") as file:
        return Volumes.of([open_disk(file)])


DISCS = {
    "an MBR": [],
    "an MBR whose partition begins behind it": ["-partition_offset", "16"],
    "a GPT": ["-appended_part_as_gpt"],
    "a GPT with the disc as a partition": ["-appended_part_as_gpt", "-partition_offset", "16"],
}


@pytest.mark.oracle
@pytest.mark.parametrize("what", DISCS)
def test_a_disc_that_boots_as_a_disk_is_a_disc(what, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/one").write_text("one")
    (tmp_path / "efi").write_bytes(bytes(MIB))
    words = ["xorriso", "-as", "mkisofs", "-quiet", *DISCS[what], "-append_partition", "2", "0xef", "efi"]
    subprocess.run([*words, "-o", "disc", "files"], check=True, cwd=tmp_path, capture_output=True, timeout=60)
    assert len(json.loads(tables.listed(tmp_path / "disc"))["partitiontable"]["partitions"]) > 1
    (found,) = look(tmp_path / "disc").volumes
    assert (found.name, found.kind) == ("whole disk", "iso9660")


@pytest.mark.oracle
def test_a_disk_that_was_a_disc_before_is_a_disk(disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    tables.put(disk, 0x8001, b"CD001")
    assert look(disk).tables == ("MBR",)


VERSIONS = ["0.90", "1.0", "1.1", "1.2"]


@pytest.mark.oracle
@pytest.mark.parametrize("version", VERSIONS)
def test_mdadm_reads_the_members_that_the_tests_make(version, tmp_path):
    member = tmp_path / "member"
    member.write_bytes(tables.mirror(marked("ext"), version))
    told = subprocess.run(["mdadm", "--examine", member], check=True, capture_output=True, text=True).stdout
    assert "Raid Level : raid1" in told
    assert re.search(r"Checksum : \w+ - correct", told)
    assert f"Version : {version}" in told


@pytest.mark.parametrize("version", VERSIONS)
def test_a_raid1_is_read_from_a_member(version):
    data = marked("ext", label=b"data")
    found = look(tables.mirror(data, version)).volumes
    assert [each.kind for each in found] == ["md", "ext"]
    assert content(found[1]) == data
    if version != "0.90":
        assert found[1].name == "RAID1 host:root"
        assert found[1].devices == ("/dev/md/root",)


def test_a_raid1_is_read_from_its_most_recent_member():
    old, new = marked("ext", label=b"old"), marked("ext", label=b"new")
    for order in ((old, 3), (new, 9)), ((new, 9), (old, 3)):
        found = look(*(tables.mirror(data, "1.2", events=events) for data, events in order))
        mirrors = [each for each in found.volumes if each.kind == "ext"]
        assert [content(each) for each in mirrors] == [new]
        assert "its members are out of sync; reading the one updated last, " in found.warnings[0]


def test_a_raid1_may_have_a_table_of_partitions(disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    found = look(tables.mirror(disk.read_bytes(), "1.2"))
    assert names(found)[1:] == [f"RAID1 host:root, partition {number}" for number in (1, 2, 3)]


FAULTS = {
    "a RAID5": ({"level": 5}, "RAID5"),
    "a RAID0": ({"level": 0}, "RAID0"),
    "a spare": ({"role": 0xFFFF}, "spare"),
    "a member that failed": ({"role": 0xFFFE}, "failed"),
    "a journal": ({"role": 0xFFFD}, "journal"),
    "a member that is being rebuilt": ({"features": 2}, "its rebuild is unfinished"),
    "a member that is being reshaped": ({"features": 4}, "its reshape is unfinished"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_member_without_the_data_says_why(what):
    fields, message = FAULTS[what]
    (found,) = look(tables.mirror(marked("ext"), "1.2", **fields)).volumes
    assert found.kind == "md"
    assert message in found.fault


@pytest.mark.parametrize(
    ("fields", "message"), [({"state": 1}, "failed"), ({"state": 2}, "spare"), ({"level": 5}, "5")]
)
def test_an_old_member_without_the_data_says_why(fields, message):
    (found,) = look(tables.mirror(marked("ext"), "0.90", **fields)).volumes
    assert message in found.fault


def extents(chance: random.Random, count: int = 8) -> list[bytes]:
    return [chance.randbytes(16) * (EXTENT // 16) for _ in range(count)]


def test_linear_volumes_are_put_together_from_their_segments(chance):
    parts = extents(chance)
    text = group(volume("root-fs", striped(0, 2, ("pv0", 5)), striped(2, 1, ("pv0", 0)), striped(3, 1, ("pv0", 7))))
    found = one(look(physical_volume(tables.UUIDS[0], text, parts)), "vg-one/root-fs")
    assert content(found) == parts[5] + parts[6] + parts[0] + parts[7]
    assert found.devices[:2] == ("/dev/vg-one/root-fs", "/dev/mapper/vg--one-root--fs")
    identity = "GGGGGGaaaabbbbccccddddeeeeffffffROOT-Faaaabbbbccccddddeeeeffffff".replace("-", "")
    assert found.devices[2:] == (
        "/dev/disk/by-id/dm-name-vg--one-root--fs",
        f"/dev/disk/by-id/dm-uuid-LVM-{identity}",
    )
    assert not found.is_plain_range


def test_striped_volumes_are_put_together_from_several_disks(chance):
    first, second = extents(chance), extents(chance)
    text = group(volume("data", striped(0, 4, ("pv0", 1), ("pv1", 3), stripe=8)), count=2)
    disks = [
        physical_volume(tables.UUIDS[0], text, first),
        physical_volume(tables.UUIDS[1], text, second, wrapped=True),
    ]
    left, right = first[1] + first[2], second[3] + second[4]
    expected = b"".join(left[at : at + 4096] + right[at : at + 4096] for at in range(0, 2 * EXTENT, 4096))
    for order in (disks, disks[::-1]):
        assert content(one(look(*order), "vg-one/data")) == expected


def test_a_volume_on_another_disk_is_named_and_the_others_are_read(chance):
    parts = extents(chance)
    text = group(volume("here", striped(0, 1, ("pv0", 0))) + volume("there", striped(0, 1, ("pv1", 0))), count=2)
    found = look(physical_volume(tables.UUIDS[0], text, parts))
    assert content(one(found, "vg-one/here")) == parts[0]
    assert re.search(r"another disk .*, last seen as /dev/sdb2", one(found, "vg-one/there").fault)
    assert found.missing == (
        f"the physical volume {tables.UUIDS[1]}, last seen as /dev/sdb2, in the volume group vg-one",
    )


def test_the_newest_text_of_a_group_counts(chance):
    first, second = extents(chance), extents(chance)
    old = group(volume("data", striped(0, 1, ("pv0", 1))), count=2, sequence=4)
    new = group(volume("data", striped(0, 1, ("pv1", 2))), count=2, sequence=5)
    disks = physical_volume(tables.UUIDS[0], old, first), physical_volume(tables.UUIDS[1], new, second)
    assert content(one(look(*disks), "vg-one/data")) == second[2]


KINDS_OF_LV = ["thin", "thin-pool", "raid1", "raid5_ls", "cache", "cache+CACHE_USES_CACHEVOL", "mirror", "vdo", "error"]


@pytest.mark.parametrize("kind", KINDS_OF_LV)
def test_a_volume_of_another_kind_is_named_and_the_others_are_read(kind, chance):
    parts = extents(chance)
    odd = f'start_extent = 0\nextent_count = 2\ntype = "{kind}"\nthin_pool = "pool"\ntransaction_id = 1'
    hidden = volume("pool_tdata", striped(0, 1, ("pv0", 4)), status='"READ", "WRITE"')
    text = group(volume("odd", odd) + hidden + volume("root", striped(0, 1, ("pv0", 3))))
    found = look(physical_volume(tables.UUIDS[0], text, parts))
    assert names(found) == ["whole disk", "vg-one/odd", "vg-one/root"]
    assert f"its type is {kind};" in one(found, "vg-one/odd").fault
    assert content(one(found, "vg-one/root")) == parts[3]


def test_a_snapshot_is_named_and_its_origin_is_read(chance):
    parts = extents(chance)
    hidden = (
        'start_extent = 0\nextent_count = 1\ntype = "snapshot"\nchunk_size = 8\norigin = "root"\ncow_store = "snap"'
    )
    text = group(
        volume("root", striped(0, 1, ("pv0", 3)))
        + volume("snap", striped(0, 1, ("pv0", 4)))
        + volume("snapshot0", hidden, status='"READ", "WRITE"')
    )
    found = look(physical_volume(tables.UUIDS[0], text, parts))
    assert content(one(found, "vg-one/root")) == parts[3]
    assert "snapshot" in one(found, "vg-one/snap").fault


BAD = {
    "segments with a gap": volume("bad", striped(0, 1, ("pv0", 0)), striped(2, 1, ("pv0", 1))),
    "segments over each other": volume("bad", striped(0, 2, ("pv0", 0)), striped(1, 1, ("pv0", 1))),
    "an extent beyond the end": volume("bad", striped(0, 2, ("pv0", 7))),
    "an unknown place": volume("bad", striped(0, 2, ("pv9", 7))),
    "stripes without a size": volume("bad", striped(0, 2, ("pv0", 0), ("pv0", 1), stripe=0)),
    "an odd number of extents": volume("bad", striped(0, 3, ("pv0", 0), ("pv0", 2))),
}


@pytest.mark.parametrize("what", BAD)
def test_a_damaged_volume_is_named_and_the_others_are_read(what, chance):
    parts = extents(chance)
    found = look(physical_volume(tables.UUIDS[0], group(BAD[what] + volume("root", striped(0, 1, ("pv0", 3)))), parts))
    assert one(found, "vg-one/bad").fault
    assert content(one(found, "vg-one/root")) == parts[3]


def test_damaged_metadata_of_a_group_is_reported_and_other_volumes_are_read(disk, chance):
    tables.sfdisk(disk, "label: dos\nsize=4M,type=83\nsize=12M,type=8e\n")
    tables.put(disk, MIB, marked("ext"))
    tables.put(disk, 5 * MIB, physical_volume(tables.UUIDS[0], "vg {", extents(chance)))
    found = look(disk)
    assert [each.kind for each in found.volumes] == ["ext", "lvm"]
    assert "unexpected end" in found.warnings[0]
    assert "no LVM metadata found on any physical volume" in found.warnings[1]


TEXTS = ["a {", "a = [1", "}", "a = {", "a = = 1", 'a = "open', "a b", "[", "a { " * 40, "{", "a = [ [ 1 ] ]"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_is_not_metadata_is_refused(text):
    with pytest.raises(FormatError, match="LVM metadata"):
        lvm_text.parse(text.encode())


def test_strings_of_metadata_may_hold_signs():
    assert lvm_text.parse(b'a = "x \\"} # \\\\" # {\nb = [ "y", -3, ] c { }') == {
        "a": 'x "} # \\',
        "b": ["y", -3],
        "c": {},
    }


@contextmanager
def loops(*files: Path):
    with ExitStack() as stack:
        devices = []
        for file in files:
            device = subprocess.run(["losetup", "-f", "--show", file], check=True, capture_output=True, text=True)
            devices.append(device.stdout.strip())
            stack.callback(subprocess.run, ["losetup", "-d", devices[-1]], check=True)
        yield devices


def lvm(devices: list[str], *words: str) -> None:
    only = ", ".join(f'"a|^{device}$|"' for device in devices)
    config = f'devices {{ filter=[{only}, "r|.*|"] use_devicesfile=0 }} activation {{ udev_sync=0 monitoring=0 }}'
    config += ' backup { backup=0 archive=0 } global { use_lvmpolld=0 locking_dir="/run/lock/lvm" }'
    subprocess.run(
        ["lvm", words[0], "--config", config, "--driverloaded", "n", *words[1:]],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )


@pytest.mark.oracle
@pytest.mark.root
def test_what_lvm_makes_is_read(tmp_path, chance):
    """Volumes over two disks, extended and removed, so that segments lie in pieces; no device-mapper is needed."""
    files = [tmp_path / "one", tmp_path / "two"]
    marks = [chance.randbytes(8) for _ in files]
    for file, mark in zip(files, marks, strict=True):
        # Each 64 KiB of the disk say where they are.
        file.write_bytes(b"".join((mark + at.to_bytes(8, "little")) * 4096 for at in range(24 * 16)))
    name = f"ltsp{os.getpid()}"
    with loops(*files) as devices:
        for device in devices:
            subprocess.run(["wipefs", "-aq", device], check=True)
        lvm(devices, "pvcreate", "-q", *devices)
        lvm(devices, "vgcreate", "-q", "-s", "1m", name, *devices)
        create = ("lvcreate", "-q", "-an", "-Zn", "-Wn")
        lvm(devices, *create, "-n", "first", "-l", "3", name, devices[0])
        lvm(devices, *create, "-n", "second", "-l", "2", name, devices[0])
        lvm(devices, *create, "-n", "striped", "-i2", "-I64k", "-l", "4", name)
        lvm(devices, "lvextend", "-q", "-l", "+4", f"{name}/first", devices[0])
        lvm(devices, "lvextend", "-q", "-l", "+3", f"{name}/second", devices[1])
        lvm(devices, "lvremove", "-q", "-f", f"{name}/striped")
        lvm(devices, *create, "-n", "wide", "-i2", "-I64k", "-l", "6", name)
    found = look(*files)
    assert names(found) == ["disk 1", "disk 2", f"{name}/first", f"{name}/second", f"{name}/wide"]

    def places(volume: str) -> list[tuple[int, int]]:
        data = content(one(found, f"{name}/{volume}"))
        return [
            (marks.index(data[at : at + 8]), int.from_bytes(data[at + 8 : at + 16], "little"))
            for at in range(0, len(data), 65536)
        ]

    def expected(*runs: tuple[int, int, int]) -> list[tuple[int, int]]:
        return [(disk, place) for disk, start, count in runs for place in range(start * 16, (start + count) * 16)]

    # pe_start is 1 MiB. Extents of the first disk: first 0-2, second 3-4, striped 5-6, more of first 7-10.
    assert places("first") == expected((0, 1, 3), (0, 8, 4))
    assert places("second")[: 2 * 16] == expected((0, 4, 2))
    assert len(set(places("second"))) == 5 * 16
    wide = places("wide")
    assert wide[::2] == sorted(wide[::2])
    assert [disk for disk, _ in wide] == [0, 1] * 48


def test_kinds_have_names_for_messages():
    assert describe_kind("ext") == "an ext2, ext3 or ext4 file system"
    assert describe_kind("btrfs") == "a btrfs file system"
    assert describe_kind("xfs") == "an xfs file system"


def test_volumes_of_several_disks_are_distinguished(disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    found = look(disk, marked("ext"))
    assert names(found) == [*(f"disk 1, partition {number}" for number in (1, 2, 3)), "disk 2"]
    assert [each.disk for each in found.volumes] == [0, 0, 0, 1]


def test_a_disk_that_says_its_sectors_is_read_by_them(disk):
    tables.sfdisk(disk, TABLES["primary partitions"])
    with disk.open("rb") as file:
        blocks = open_disk(file).blocks
        (first, *_) = Volumes.of([Disk(blocks, "VHDX", sector_size=4096)]).volumes
        assert first.offset == 2048 * 4096
