"""Systems on disks, through the process that reads them."""

from __future__ import annotations

import gzip
import os
import subprocess

import pytest

from corpus.disks import converted, ext4, fstab, moved, partitioned
from corpus.system import VERSION, make_system
from ltsp.errors import FileChanged, FormatError, LockHeld, SourceError
from ltsp.source.disk.disk import DiskSource
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from ltsp.tree.selection import Inclusion, select_all

pytestmark = pytest.mark.oracle

TOOL = "usr/bin/tool"
KERNEL = f"boot/vmlinuz-{VERSION}"


@pytest.fixture
def system(tmp_path):
    return make_system(tmp_path / "system")


def paths(argument):
    with find_source(str(argument), "/nowhere").open(select_all, Faults()) as tree:
        return {path for path, _ in tree.walk()}


def read_whole(disk):
    with find_source(str(disk), "/nowhere").open(select_all, Faults()) as tree:
        for _, node in tree.walk():
            if isinstance(node, File):
                with node.content.open() as stream:
                    stream.read(1 << 30)


def told(argument, kind=SourceError):
    with pytest.raises(kind) as caught:
        find_source(str(argument), "/nowhere")
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"])
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_the_system_is_found_whatever_stands_before_it(tmp_path, system, label, form):
    words = {"gpt": ("type=uefi", "type=swap", "type=linux"), "dos": ("type=ef", "type=82", "type=83")}[label]
    parts = zip(words, (4, 4, ext4(tmp_path / "root.ext4", system)), strict=True)
    disk = partitioned(tmp_path / "vm.img", label, list(parts))
    disk = disk if form == "raw" else converted(disk, form)
    source = find_source(str(disk), "/nowhere")
    assert source.kind == "disk"
    assert "ext4 on partition 3" in source.description
    with source.open(select_all, Faults()) as tree:
        assert isinstance(tree.get(TOOL), File)
        with tree.get(KERNEL).content.open() as stream:
            assert stream.read(1 << 20) == (system / KERNEL).read_bytes()


def test_a_file_system_without_a_table_is_a_disk_too(tmp_path, system):
    assert {TOOL, KERNEL} <= paths(ext4(tmp_path / "root.img", system))


def test_a_directory_that_is_left_out_is_not_read(tmp_path, system):
    (system / "home/teacher").mkdir(parents=True)
    disk = ext4(tmp_path / "root.img", system, 16, "-O", "metadata_csum")
    call = ["debugfs", "-R", "blocks /home", disk]
    block = int(subprocess.run(call, check=True, capture_output=True, text=True).stdout.split()[0])
    with disk.open("r+b") as file:
        file.seek(block * 1024)
        file.write(b"\xff" * 1024)
    source = find_source(str(disk), "/nowhere")
    with pytest.raises(FormatError, match="directory /home"), source.open(select_all, Faults()):
        pass
    for take in (Inclusion.EMPTIED, Inclusion.NOTHING):
        select = lambda path, _directory, take=take: take if path == "home" else Inclusion.ALL  # noqa: E731
        with source.open(select, Faults()) as tree:
            assert {TOOL, KERNEL} <= {path for path, _ in tree.walk()}
            assert (tree.get("home") is None) is (take is Inclusion.NOTHING)


def test_what_stands_on_a_partition_of_its_own_is_left_out_under_the_path_that_it_has(tmp_path, system):
    (system / "data").mkdir()
    (system / "boot").rename(system / "data/boot")
    (system / "boot").symlink_to("data/boot")
    part = tmp_path / "part"
    (part / "kept/in").mkdir(parents=True)
    (part / "left/out").mkdir(parents=True)
    below = ext4(tmp_path / "below.ext4", part, 4, "-L", "below")
    fstab(system, {"boot": "LABEL=below"})
    disk = partitioned(tmp_path / "vm.img", "gpt", [("", ext4(tmp_path / "root.ext4", system)), ("", below)])
    emptied = {"data/boot/left", "boot/kept"}
    select = lambda path, _directory: Inclusion.EMPTIED if path in emptied else Inclusion.ALL  # noqa: E731
    with find_source(str(disk), "/nowhere").open(select, Faults()) as tree:
        found = {path for path, _ in tree.walk()}
    assert {"data/boot/kept/in", "data/boot/left"} <= found
    assert "data/boot/left/out" not in found


def test_a_compressed_disk_is_unpacked(tmp_path, system):
    disk = ext4(tmp_path / "root.img", system)
    (tmp_path / "root.img.gz").write_bytes(gzip.compress(disk.read_bytes(), 1))
    assert {TOOL, KERNEL} <= paths(tmp_path / "root.img.gz")


@pytest.mark.parametrize(
    "spec", ["UUID={uuid}", "LABEL=boots", "PARTLABEL=boot", "/dev/vda1", "/dev/disk/by-uuid/{uuid}"]
)
def test_what_its_fstab_mounts_is_taken_in(tmp_path, system, spec):
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    fstab(system, {"boot": spec.format(uuid=uuid), "home": "UUID=feed", "opt": "UUID=beef"})
    boot = ext4(tmp_path / "boot.ext4", moved(system, "boot", tmp_path / "boot"), 16, "-U", uuid, "-L", "boots")
    root = ext4(tmp_path / "root.ext4", system)
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux, name=boot", boot), ("type=linux", root)])
    source = find_source(str(disk), "/nowhere")
    plan = source.plan()
    assert [part.path for part in plan.included] == ["", "boot"]
    assert [part.path for part in plan.left_out] == ["opt"]
    assert {TOOL, KERNEL} <= paths(disk)


def test_a_part_that_is_missing_and_vital_is_an_error(tmp_path, system):
    fstab(system, {"usr": "UUID=0123"})
    said = told(ext4(tmp_path / "root.img", system))
    assert "its fstab mounts UUID=0123 at /usr" in said
    assert "not found on any volume of the given disks" in said


def test_of_several_systems_one_is_named(tmp_path, system):
    (system / "etc/os-release").write_text('PRETTY_NAME="First \x1b[2J"\n')
    first = ext4(tmp_path / "one.ext4", system)
    (system / "etc/os-release").write_text("PRETTY_NAME=Second\n")
    (system / "only-second").touch()
    disk = partitioned(
        tmp_path / "vm.img", "gpt", [("type=linux", first), ("type=linux", ext4(tmp_path / "two.ext4", system))]
    )
    said = told(disk)
    assert "several systems" in said
    assert "Second (ext4 on partition 2)" in said
    assert "partition=1" in said
    assert "only-second" in paths(f"{disk},partition=2")
    assert "only-second" not in paths(f"{disk},partition=1")
    assert "no partition 7; it has" in told(f"{disk},partition=7")


def test_an_unread_volume_that_may_hold_another_system_is_reported(tmp_path, system):
    locked = tmp_path / "luks"
    locked.write_bytes(b"LUKS\xba\xbe\0\2" + bytes((4 << 20) - 8))
    parts = [("type=linux", locked), ("type=linux", ext4(tmp_path / "root.ext4", system)), ("type=swap", 4)]
    disk = partitioned(tmp_path / "vm.img", "gpt", parts)
    [warning] = find_source(str(disk), "/nowhere").plan().warnings
    assert warning.startswith("partition 1 was not searched, and may hold another system: it holds an encrypted")
    assert find_source(f"{disk},partition=2", "/nowhere").plan().warnings == ()


def test_a_disk_without_a_system_says_what_it_has(tmp_path):
    (tmp_path / "data").mkdir()
    data = ext4(tmp_path / "data.ext4", tmp_path / "data", 8)
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=swap", 4), ("type=linux", data)])
    with disk.open("r+b") as file:
        file.seek((1 << 20) + 4086)
        file.write(b"SWAPSPACE2")
    said = told(disk)
    assert "no Linux root file system found on it" in said
    assert "partition 1" in said
    assert "swap" in said
    assert "partition 2 (ext4)" in said


def test_a_medium_that_only_installs_says_what_to_name(tmp_path):
    (tmp_path / "cd/install.amd").mkdir(parents=True)
    (tmp_path / "cd/install.amd/vmlinuz").write_bytes(bytes(4096))
    medium = tmp_path / "cd.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", medium, tmp_path / "cd"], check=True)
    with pytest.raises(SourceError) as caught:
        find_source(str(medium), "/nowhere", name="lab").plan()
    assert caught.value.hint.startswith("name a live medium, or install the system in a virtual machine")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("magic", "typed"), [(b"VMA\0", "vma extract"), (b"partclone-image", "partclone.restore")])
def test_backups_of_disks_say_how_to_restore_them(pack, magic, typed, tmp_path):
    (tmp_path / "vm.img").write_bytes(pack(magic + bytes(1 << 20)))
    with pytest.raises(SourceError) as caught:
        find_source(str(tmp_path / "vm.img"), "/nowhere").plan()
    assert typed in caught.value.hint


def test_another_type_than_the_volume_has_is_answered_with_what_it_holds(tmp_path, system):
    root = ext4(tmp_path / "root.img", system)
    with pytest.raises(SourceError, match="fstype=xfs is wrong: it holds an ext2, ext3 or ext4 file system") as caught:
        find_source(f"{root},fstype=xfs", "/nowhere", name="lab").plan()
    assert caught.value.hint.startswith("omit fstype=")  # as root, the kernel was asked too


def test_encrypted_volumes_are_named(tmp_path):
    luks = tmp_path / "luks.img"
    luks.write_bytes(b"LUKS\xba\xbe\0\2" + bytes(1 << 20))
    assert "encrypted volume (LUKS)" in told(luks)


def test_parts_of_a_source_may_be_file_systems(tmp_path, system):
    boot = ext4(tmp_path / "boot.img", moved(system, "boot", tmp_path / "boot"))
    assert {TOOL, KERNEL} <= paths(f"{system},,{boot},subdir=boot")


def test_a_backing_file_is_next_to_its_disk_or_allowed(tmp_path, system):
    disk = ext4(tmp_path / "root.img", system)
    (tmp_path / "elsewhere").mkdir()
    beside, apart = tmp_path / "above.qcow2", tmp_path / "elsewhere/above.qcow2"
    for overlay, backing in ((beside, disk.name), (apart, f"../{disk.name}")):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", overlay], check=True)
    assert TOOL in paths(beside)
    assert "outside its directory" in told(apart)
    (tmp_path / "elsewhere" / disk.name).symlink_to(disk)
    subprocess.run(["qemu-img", "rebase", "-u", "-b", disk.name, "-F", "raw", apart], check=True)
    assert "outside its directory" in told(apart), "a link leads out"
    assert find_source(str(apart), "/nowhere", disks=DiskOptions((str(tmp_path),))).kind == "disk"


def test_a_disk_that_somebody_writes_to_is_refused_by_his_name(tmp_path, system):
    disk, above = ext4(tmp_path / "root.img", system), tmp_path / "above.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.name, "-F", "raw", above], check=True)
    with disk.open("r+b") as file, subprocess.Popen(["sleep", "60"], stdin=file) as machine:
        file.close()
        try:
            for taken in (disk, above):
                said = told(taken, LockHeld)
                assert f"{disk} is in use: sleep (process {machine.pid})" in said
                assert find_source(str(taken), "/nowhere", disks=DiskOptions(force=True)).kind == "disk"
        finally:
            machine.kill()


def test_a_disk_that_is_written_to_meanwhile_is_reported(tmp_path, system):
    disk = ext4(tmp_path / "root.img", system)
    source = find_source(str(disk), "/nowhere")
    with pytest.raises(FileChanged, match="written to while it was being read"), source.open(select_all, Faults()):
        os.utime(disk, ns=(1, 1))


def test_a_given_file_system_that_nothing_reads_is_named(tmp_path, system):
    disk = ext4(tmp_path / "root.img", system)
    assert "fstype=nonsense, which cannot be read" in told(f"{disk},fstype=nonsense")


def test_what_mkfs_left_of_another_file_system_is_never_taken_for_the_system(tmp_path, system):
    """Where a device discards nothing, mke2fs leaves the superblock of btrfs and the descriptors of a disc."""
    disk, before = tmp_path / "root.img", make_system(tmp_path / "before")
    (before / "old").touch()
    with disk.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-f", "-r", before, disk], check=True, capture_output=True)
    options = ["-E", "nodiscard", "-O", "^resize_inode"]
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *options, "-d", system, disk], check=True)
    for reader in ("auto", "user"):
        with pytest.raises(SourceError, match="traces of another one") as caught:
            find_source(str(disk), "/nowhere", disks=DiskOptions(reader=reader))
        assert "fstype=ext4" in str(caught.value)
    assert "old" not in paths(f"{disk},fstype=ext4")
    assert TOOL in paths(f"{disk},fstype=ext4")


def test_a_truncated_disk_is_refused(tmp_path, system):
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", ext4(tmp_path / "root.ext4", system))])
    qcow2 = converted(disk, "qcow2")
    os.truncate(qcow2, qcow2.stat().st_size // 2)
    with pytest.raises((FormatError, SourceError)):
        read_whole(qcow2)


def test_a_source_whose_disk_was_not_looked_into_has_a_plan(tmp_path):
    assert DiskSource("a", str(tmp_path / "x")).plan().included[0].description == f"disk {tmp_path}/x"


@pytest.mark.root
def test_a_system_in_subvolumes_is_put_together_as_on_fedora(tmp_path, system):
    fstab(system, {"boot": "LABEL=boots", "boot/efi": "LABEL=ESP"})
    with (system / "etc/fstab").open("a") as file:
        file.write("LABEL=fedora /var btrfs subvol=var 0 0\nLABEL=fedora /home btrfs subvol=home 0 0\n")
    boot = moved(system, "boot", tmp_path / "boot")
    (boot / "efi").mkdir()
    disk = partitioned(
        tmp_path / "vm.img",
        "gpt",
        [
            ("type=uefi", esp(tmp_path / "esp.vfat")),
            ("type=linux", ext4(tmp_path / "boot.ext4", boot, 16, "-L", "boots")),
            ("type=linux", btrfs(tmp_path / "root.btrfs", system)),
        ],
    )
    source = find_source(str(disk), "/nowhere")
    assert "btrfs on partition 3, subvolume root" in source.description
    assert [part.path for part in source.plan().included] == ["", "boot", "boot/efi", "var"]
    found = paths(disk)
    assert {TOOL, KERNEL, "boot/efi/EFI/fedora.cfg", "var/of-var"} <= found
    assert "old" in paths(f"{disk},subvol=snapshot")
    assert "no subvolume nothing" in told(f"{disk},subvol=nothing")


def esp(path):
    (path.parent / "cfg").write_text("set\n")
    subprocess.run(["mkfs.vfat", "-C", "-n", "ESP", path, "8192"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mmd", "-i", path, "::EFI"], check=True)
    subprocess.run(["mcopy", "-i", path, path.parent / "cfg", "::EFI/fedora.cfg"], check=True)
    return path


def btrfs(path, system):
    with path.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-L", "fedora", path], check=True)
    at = path.with_name("mounted")
    at.mkdir()
    script = """
        set -e
        mount -o loop "$1" "$2"
        for name in root home var snapshot; do btrfs -q subvolume create "$2/$name"; done
        cp -a "$3/." "$2/root"; cp -a "$3/." "$2/snapshot"
        touch "$2/var/of-var" "$2/snapshot/old"
        umount "$2"
    """
    subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", path, at, system], check=True)
    return path


def test_the_system_of_a_live_medium_is_what_is_meant(tmp_path, system):
    live = tmp_path / "medium/live"
    live.mkdir(parents=True)
    subprocess.run(["mksquashfs", system, live / "filesystem.squashfs", "-quiet", "-no-progress"], check=True)
    iso = tmp_path / "live.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, live.parent], check=True)
    found = paths(iso)
    assert {TOOL, KERNEL} <= found
    assert "live" not in found


@pytest.mark.parametrize("nested", [True, False])
def test_the_system_of_fedoras_live_media_is_found_in_the_file_in_the_file(tmp_path, system, nested):
    if nested:
        inside = tmp_path / "inside/LiveOS"
        inside.mkdir(parents=True)
        ext4(inside / "rootfs.img", system, 64)
    iso = live_medium(tmp_path, "LiveOS/squashfs.img", tmp_path / "inside" if nested else system)
    found = paths(iso)
    assert {TOOL, KERNEL} <= found
    assert "LiveOS" not in found
    with (
        find_source(str(iso), "/nowhere").open(select_all, Faults()) as tree,
        tree.get(KERNEL).content.open() as stream,
    ):
        assert stream.read(1 << 20) == (system / KERNEL).read_bytes()


def test_a_selection_means_what_is_in_the_medium(tmp_path, system):
    iso = live_medium(tmp_path, "LiveOS/squashfs.img", system)

    def select(path, _directory):
        return Inclusion.ALL if path.partition("/")[0] in {"boot", "usr"} else Inclusion.NOTHING

    with find_source(str(iso), "/nowhere").open(select, Faults()) as tree:
        assert set(tree.root.entries) == {"boot", "usr"}


def live_medium(tmp_path, place, content):
    """A disc with a squashfs at a place, of what a directory holds."""
    file = tmp_path / "medium" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mksquashfs", content, file, "-quiet", "-no-progress"], check=True)
    iso = tmp_path / "live.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, tmp_path / "medium"], check=True)
    return iso
