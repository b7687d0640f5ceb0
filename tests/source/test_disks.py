"""Systems that lie on several disks: one is named, the others behind it."""

from __future__ import annotations

import shutil

import pytest

from corpus.disks import ext4, fstab, moved, partitioned
from corpus.system import VERSION, make_system
from disk.tables import EXTENT, UUIDS, group, physical_volume, striped, volume
from ltsp.errors import SourceError, UsageError
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = pytest.mark.oracle

TOOL = "usr/bin/tool"
KERNEL = f"boot/vmlinuz-{VERSION}"


@pytest.fixture
def system(tmp_path):
    return make_system(tmp_path / "system")


@pytest.fixture
def spanned(tmp_path, system):
    """The disks of a volume group, whose one volume lies on both."""
    root = ext4(tmp_path / "root.ext4", system).read_bytes()
    pieces = [root[at : at + EXTENT] for at in range(0, len(root), EXTENT)]
    half = len(pieces) // 2
    text = group(volume("root", striped(0, half, ("pv0", 0)), striped(half, len(pieces) - half, ("pv1", 0))), count=2)
    disks = tmp_path / "lab.img", tmp_path / "lab-2.img"
    for uuid, disk, part in zip(UUIDS, disks, (pieces[:half], pieces[half:]), strict=True):
        (tmp_path / "part").write_bytes(physical_volume(uuid, text, part))
        partitioned(disk, "gpt", [("type=lvm", tmp_path / "part")])
    return disks


def paths(argument):
    with find_source(str(argument), "/nowhere").open(select_all, Faults()) as tree:
        return {path for path, _ in tree.walk()}


def told(argument, kind=SourceError):
    with pytest.raises(kind) as caught:
        find_source(str(argument), "/nowhere")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_volume_group_spans_several_disks(spanned, tmp_path):
    first, second = spanned
    assert {TOOL, KERNEL} <= paths(f"{first},disk={second.name}")
    assert {TOOL, KERNEL} <= paths(f"{second},disk={first}")
    (tmp_path / "elsewhere").mkdir()
    away = shutil.move(second, tmp_path / "elsewhere/other.img")
    source = find_source(f"{first},disk={away}", "/nowhere")
    assert source.name == "lab"
    assert f"{first}, {away}" in source.description


@pytest.mark.parametrize(
    "spec",
    [
        "/dev/mapper/vg--one-boot",
        "/dev/vg-one/boot",
        "/dev/disk/by-id/dm-name-vg--one-boot",
        # As Ubuntu's installer names volumes: the group's UUID, then the volume's.
        "/dev/disk/by-id/dm-uuid-LVM-GGGGGGaaaabbbbccccddddeeeeffffffBOOTBOaaaabbbbccccddddeeeeffffff",
    ],
)
def test_an_fstab_may_call_a_logical_volume_by_any_of_its_names(tmp_path, system, spec):
    fstab(system, {"boot": spec})
    boot = ext4(tmp_path / "boot.ext4", moved(system, "boot", tmp_path / "boot")).read_bytes()
    data = boot + ext4(tmp_path / "root.ext4", system).read_bytes()
    pieces = [data[at : at + EXTENT] for at in range(0, len(data), EXTENT)]
    count = len(boot) // EXTENT
    volumes = volume("boot", striped(0, count, ("pv0", 0))), volume("root", striped(0, count, ("pv0", count)))
    disk = tmp_path / "lab.img"
    disk.write_bytes(physical_volume(UUIDS[0], group("".join(volumes)), pieces))
    assert {TOOL, KERNEL} <= paths(disk)


def test_a_disk_that_is_missing_is_named_with_what_to_type(spanned):
    first, second = spanned
    said = told(first)
    assert f"the physical volume {UUIDS[1]}" in said
    assert "volume group vg-one" in said
    assert "FILE,disk=SECOND" in said
    assert UUIDS[0] in told(second)


def test_a_disk_that_is_missing_or_given_twice_is_an_error(spanned):
    first, second = spanned
    assert "cannot read" in told(f"{first},disk=lab-7.img")
    assert "lab-7.img" in told(f"{first},disk={second.name},disk=lab-7.img")
    assert "given twice" in told(f"{first},disk={first.name}")
    second.write_bytes(b"QFI\xfb" + bytes(1000))
    assert "disk 2: " in told(f"{first},disk={second.name}", kind=Exception)


@pytest.mark.parametrize("spec", ["UUID=01234567-89ab-cdef-0123-456789abcdef", "/dev/sdb1"])
def test_an_fstab_names_partitions_of_the_second_disk(tmp_path, system, spec):
    fstab(system, {"usr": spec})
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    usr = ext4(tmp_path / "usr.ext4", moved(system, "usr", tmp_path / "usr"), 16, "-U", uuid)
    first = partitioned(tmp_path / "a.img", "gpt", [("type=linux", ext4(tmp_path / "root.ext4", system))])
    second = partitioned(tmp_path / "b.img", "gpt", [("type=linux", usr)])
    assert {TOOL, KERNEL} <= paths(f"{first},disk={second.name}")
    assert "FILE,disk=SECOND" in told(first)


def test_systems_on_several_disks_are_distinguished(tmp_path, system):
    root = ext4(tmp_path / "root.ext4", system)
    (system / "only-second").touch()
    first = partitioned(tmp_path / "a.img", "gpt", [("type=linux", root)])
    second = partitioned(tmp_path / "b.img", "gpt", [("type=linux", ext4(tmp_path / "two.ext4", system))])
    both = f"{first},disk={second.name}"
    assert "disk 2, partition 1" in told(both)
    assert "only-second" in paths(f"{both},partition=2:1")
    assert "only-second" not in paths(f"{both},partition=1:1")


def test_a_file_that_is_not_a_disk_has_no_other_disks(system):
    assert "disk=b.img" in told(f"{system},disk=b.img", UsageError)
