"""Disks of virtual machines in the archives that they are exported in."""

from __future__ import annotations

import subprocess

import pytest

from corpus.disks import converted, ext4
from corpus.system import make_system
from ltsp.errors import LtspError, SourceError
from ltsp.inspection.exported_disk import find_disks
from ltsp.source.find import find_source
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree

TOOL = "usr/bin/tool"


def test_disks_are_identified_by_their_names():
    plain = Metadata(0o644)
    names = ("lab.ovf", "lab-disk001.vmdk", "box.img", "disk.raw", "x.VHDX", "initrd.img", "initramfs.img", "boot.img")
    names += ("lab-disk2.vmdk.gz", "initrd.img.gz", "core.gz")
    files = {name: File(plain, Bytes(b"")) for name in names}
    below = Directory(plain, {"virtual-machine.img": File(plain, Bytes(b""))})
    tree = Tree(Directory(plain, {**files, "backup": below, "folder.img": Directory(plain)}))
    assert find_disks(tree) == (
        "backup/virtual-machine.img",
        "box.img",
        "disk.raw",
        "lab-disk001.vmdk",
        "lab-disk2.vmdk.gz",
        "x.VHDX",
    )


def read(path):
    with find_source(path, "/nowhere").open(select_all, Faults()):
        pass


@pytest.fixture
def disk(tmp_path):
    return ext4(tmp_path / "disk.raw", make_system(tmp_path / "system"))


def archive(tmp_path, name, *files):
    for file in files:
        if not file.exists():
            file.write_text("<Envelope/>\n")
    compression = {"gz": ["-z"], "xz": ["-J"]}.get(name.rpartition(".")[2], [])
    words = ["tar", *compression, "-C", tmp_path, "-cf", tmp_path / name, *(file.name for file in files)]
    subprocess.run(words, check=True)
    return str(tmp_path / name)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["lab.ova", "lab.box", "debian-12.tar.xz", "gce.tar.gz"])
@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk"])
def test_the_disk_in_an_archive_is_read(tmp_path, disk, name, form):
    inner = disk if form == "raw" else converted(disk, form)
    path = archive(tmp_path, name, tmp_path / "lab.ovf", inner)
    with find_source(path, "/nowhere", name="lab").open(select_all, Faults()) as tree:
        with tree.get(TOOL).content.open() as stream:
            assert stream.read(100) == b"#!/bin/sh\n"
        assert tree.get("lab.ovf") is None


@pytest.mark.oracle
@pytest.mark.parametrize("program", ["gzip", "xz"])
def test_the_disk_in_an_archive_may_be_compressed_itself(tmp_path, disk, program):
    inner = converted(disk, "vmdk")
    subprocess.run([program, "-1", inner], check=True)
    (packed,) = tmp_path.glob(f"{inner.name}.*")
    path = archive(tmp_path, "lab.ova", tmp_path / "lab.ovf", packed)
    with find_source(path, "/nowhere", name="lab").open(select_all, Faults()) as tree:
        assert isinstance(tree.get(TOOL), File)


@pytest.mark.oracle
def test_a_virtual_machine_without_a_disk_is_recognized(tmp_path):
    path = archive(tmp_path, "lab.ova", tmp_path / "lab.ovf", tmp_path / "lab.mf")
    with pytest.raises(
        SourceError, match=r"lab\.ova is a virtual machine without a disk: found lab\.mf, lab\.ovf"
    ) as caught:
        read(path)
    assert caught.value.hint == "export it again with its disks, or name the disk itself: ltsp image ./lab.vmdk"


@pytest.mark.oracle
def test_the_error_for_a_split_disk_says_how_to_join_it(tmp_path, disk):
    inner = converted(disk, "vmdk")
    data = inner.read_bytes()
    half = len(data) // 2
    pieces = [tmp_path / f"{inner.name}.{number:09}" for number in range(2)]
    for piece, part in zip(pieces, (data[:half], data[half:]), strict=True):
        piece.write_bytes(part)
    path = archive(tmp_path, "lab.ova", tmp_path / "lab.ovf", *pieces)
    with pytest.raises(SourceError, match="holds the disk of a virtual machine in several pieces") as caught:
        read(path)
    commands, _, typed = caught.value.hint.partition("name the disk: ")[2].rpartition("; ltsp image ")
    for file in (inner, *pieces):
        file.unlink()
    subprocess.run(["sh", "-c", commands], cwd=tmp_path, check=True)
    read(str(tmp_path / typed))


@pytest.mark.oracle
def test_of_several_disks_one_is_named(tmp_path, disk):
    second = tmp_path / "second.vmdk"
    second.write_bytes(b"no disk")
    path = archive(tmp_path, "lab.ova", disk, second)
    with pytest.raises(SourceError, match=r"contains several virtual machine disks: disk\.raw, second\.vmdk") as caught:
        read(path)
    assert caught.value.hint == (
        f"name the system disk: {path},,disk.raw, or unpack it, and name the disk: tar -xf {path} disk.raw"
    )
    with find_source(f"{path},,disk.raw", "/nowhere").open(select_all, Faults()) as tree:
        assert isinstance(tree.get(TOOL), File)


@pytest.mark.oracle
def test_a_disk_that_cannot_be_read_is_named_with_how_it_is_unpacked(tmp_path):
    broken = tmp_path / "lab-disk1.vmdk"
    broken.write_bytes(b"QED\0" + bytes(4096))
    path = archive(tmp_path, "lab.ova", broken)
    with pytest.raises(LtspError) as caught:
        read(path)
    assert caught.value.message == f"the disk lab-disk1.vmdk in {path}: it is a QED disk"
    assert caught.value.hint.endswith(f"tar -xf {path} lab-disk1.vmdk")


@pytest.mark.oracle
def test_an_archive_of_files_alone_is_still_one(tmp_path):
    path = archive(tmp_path, "notes.tar", tmp_path / "notes.txt")
    with find_source(path, "/nowhere").open(select_all, Faults()) as tree:
        assert list(tree.root.entries) == ["notes.txt"]
