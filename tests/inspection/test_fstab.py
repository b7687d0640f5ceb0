"""Other file systems of a system: those in its fstab, and partitions that say by their type where they are mounted."""

from __future__ import annotations

import re
import subprocess

import pytest

from corpus.disks import ext4, partitioned
from corpus.system import VERSION, make_system
from ltsp.disk.volumes import Volume
from ltsp.inspection.fstab import (
    _DISCOVERABLE_TYPES,
    FstabDevice,
    FstabEntry,
    discover_partitions,
    parse_device,
    parse_fstab,
    parse_system_entries,
)
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.storage.blocks import MemoryBlocks
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree

UBUNTU = """\
# /etc/fstab: static file system information.
/dev/disk/by-id/dm-uuid-LVM-abc / ext4 defaults 0 1
# /boot was on /dev/vda2 during curtin installation
/dev/disk/by-uuid/1C2D-3E4F /boot/efi vfat defaults 0 1
/dev/disk/by-uuid/0A0B /boot ext4 defaults 0 1
/swap.img none swap sw 0 0
"""
FEDORA = """\
UUID=aaaa /                       btrfs   subvol=root,compress=zstd:1 0 0
UUID=bbbb /boot                   ext4    defaults        1 2
UUID=CC-DD          /boot/efi               vfat    umask=0077,shortname=winnt 0 2
UUID=aaaa /home                   btrfs   subvol=home,compress=zstd:1 0 0
UUID=aaaa /var                    btrfs   subvol=/@var 0 0
"""


def test_the_parts_of_a_system_come_parents_first_and_data_not_at_all():
    assert [(part.path, part.spec) for part in parse_system_entries(UBUNTU)] == [
        ("boot", "/dev/disk/by-uuid/0A0B"),
        ("boot/efi", "/dev/disk/by-uuid/1C2D-3E4F"),
    ]
    assert [part.path for part in parse_system_entries(FEDORA)] == ["boot", "boot/efi", "var"]
    assert [entry.subvolume for entry in parse_fstab(FEDORA)] == ["root", "", "", "home", "@var"]


@pytest.mark.parametrize(
    "line",
    [
        "server:/usr /usr nfs defaults 0 0",
        "server:/usr /usr nfs4 defaults 0 0",
        "tmpfs /var/tmp tmpfs size=1G 0 0",
        "/dev/sdb1 /srv ext4 defaults 0 0",
        "/dev/sdb1 /home ext4 defaults 0 0",
        "/opt/a /usr/a none bind 0 0",
        "/dev/sdb1 /usr/../home ext4",
        "/dev/sdb1 usr ext4",
        "/dev/sdb1",
        "#/dev/sdb1 /usr ext4",
        "\0\x1b[2J /\xff",
    ],
)
def test_what_is_not_part_of_the_system_is_left_out(line):
    assert parse_system_entries(f"{line}\n") == []


def test_blanks_in_names_are_escaped():
    assert parse_fstab("LABEL=a\\040b /opt/x\\040y ext4 nofail\n") == [
        FstabEntry("LABEL=a b", "opt/x y", "ext4", ("nofail",))
    ]
    assert parse_system_entries("LABEL=a /opt ext4 nofail\n")[0].is_optional


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("UUID=AbCd", FstabDevice("uuid", "abcd")),
        ('UUID="abcd"', FstabDevice("uuid", "abcd")),
        ("LABEL=Root", FstabDevice("label", "Root")),
        ("PARTUUID=AB-01", FstabDevice("partuuid", "ab-01")),
        ("PARTLABEL=boot", FstabDevice("partlabel", "boot")),
        ("/dev/disk/by-label/my\\x20disk", FstabDevice("label", "my disk")),
        ("/dev/sda2", FstabDevice("partition", "0/2")),
        ("/dev/vdb11", FstabDevice("partition", "1/11")),
        ("/dev/nvme0n1p3", FstabDevice("partition", "0/3")),
        ("/dev/mmcblk1p2", FstabDevice("partition", "1/2")),
        ("/dev/mapper/ubuntu--vg-ubuntu--lv", FstabDevice("volume", "ubuntu-vg/ubuntu-lv")),
        ("/dev/mapper/luks", FstabDevice("path", "/dev/mapper/luks")),
        ("/dev/debian-vg/root", FstabDevice("volume", "debian-vg/root")),
        ("/dev/md0", FstabDevice("md", "0")),
        ("/dev/md/root", FstabDevice("md", "root")),
        ("/dev/sda", FstabDevice("path", "/dev/sda")),
        ("overlay", FstabDevice("path", "overlay")),
    ],
)
def test_devices_are_named_in_many_ways(spec, meant):
    assert parse_device(spec) == meant


PLAIN = Metadata(0o755)
XBOOTLDR, ESP = "bc13c2ff-59e6-4262-a352-b275fd6f7172", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
USR = "8484680c-9521-48c6-9c11-b0720656f69e"


def volumes(*types: str, disks: tuple[int, ...] = ()) -> list[Volume]:
    every = [(kind, disks[at] if disks else 0) for at, kind in enumerate(types)]
    return [Volume(str(at), MemoryBlocks(b""), "", disk, at + 1, type=kind) for at, (kind, disk) in enumerate(every)]


def root(*empty: str, full: tuple[str, ...] = ()) -> Tree:
    entries = {name: Directory(PLAIN) for name in empty}
    return Tree(Directory(PLAIN, entries | {name: Directory(PLAIN, {"x": File(PLAIN, Bytes(b""))}) for name in full}))


def found(every, tree, listed=()):
    return [(each.path, each.number) for each in discover_partitions(every, every[-1], tree, listed)]


@pytest.mark.parametrize(
    ("types", "tree", "listed", "wanted"),
    {
        "an extended boot loader partition is /boot": ([XBOOTLDR, "83"], root("boot"), (), [("boot", 0)]),
        "but not where fstab has one": ([XBOOTLDR, "83"], root("boot"), ("boot",), []),
        "nor over what is there": ([XBOOTLDR, "83"], root(full=("boot",)), (), []),
        "nor where there is no such directory": ([XBOOTLDR, "83"], root(), (), []),
        "the ESP is /efi": ([ESP, XBOOTLDR, "83"], root("boot", "efi"), (), [("boot", 1), ("efi", 0)]),
        "and /boot where nothing else is": ([ESP, "83"], root("boot"), (), [("boot", 0)]),
        "but once only": ([ESP, "83"], root("boot", "efi"), (), [("efi", 0)]),
        "/usr has a partition": ([USR, "83"], root("usr"), (), [("usr", 0)]),
        "the root is no part of itself": ([USR], root("usr"), (), []),
    }.values(),
)
def test_what_belongs_to_a_root_besides_its_fstab(types, tree, listed, wanted):
    assert found(volumes(*types), tree, listed) == wanted


def test_other_disks_have_systems_of_their_own():
    assert found(volumes(XBOOTLDR, "83", disks=(1, 0)), root("boot")) == []


@pytest.mark.oracle
def test_the_types_are_those_of_util_linux():
    listed = subprocess.check_output(["sfdisk", "--label", "gpt", "-T"], text=True).lower()
    names = dict(re.findall(r"^([0-9a-f-]{36})\s+(.*)$", listed, re.MULTILINE))
    words = {"boot": "boot|efi", "efi": "efi", "var": "variable data", "usr": "/usr"}
    for kind, place, _ in _DISCOVERABLE_TYPES:
        assert re.search(words[place], names[kind]), (kind, names[kind])


@pytest.mark.oracle
@pytest.mark.parametrize("reader", ["user", pytest.param("kernel", marks=pytest.mark.root)])
def test_kernels_on_such_a_partition_are_the_systems(tmp_path, reader):
    system = make_system(tmp_path / "system", {"etc/fstab": ""})
    (system / "boot").rename(tmp_path / "boot")
    (system / "boot").mkdir()
    parts = [
        (f"type={XBOOTLDR}", ext4(tmp_path / "boot.ext4", tmp_path / "boot")),
        ("type=linux", ext4(tmp_path / "root.ext4", system)),
    ]
    disk = partitioned(tmp_path / "vm.img", "gpt", parts)
    source = find_source(str(disk), "/nowhere", disks=DiskOptions(reader=reader))
    taken = {part.path: part.reason for part in source.plan().included}
    assert taken["boot"] == "an extended boot loader partition, according to its type"
    with source.open(select_all, Faults()) as tree:
        assert isinstance(tree.get(f"boot/vmlinuz-{VERSION}"), File)
