"""Partitions that say by their type where they are mounted."""

from __future__ import annotations

import re
import subprocess

import pytest

from corpus.disks import ext4, partitioned
from corpus.system import VERSION, make_system
from ltsp.disk.blocks import MemoryBlocks
from ltsp.disk.volumes import Volume
from ltsp.inspection.fstab import _TYPES, discover_partitions
from ltsp.source.disk.disk import DiskOptions
from ltsp.source.find import find_source
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree

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
    for kind, place, _ in _TYPES:
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
