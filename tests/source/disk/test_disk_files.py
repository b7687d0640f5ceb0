"""What a disk names is opened beside it or where the user allows, and nowhere else; what is written to is no source."""

from __future__ import annotations

import os
import subprocess

import pytest

from ltsp.errors import FileChanged, LockHeld, SourceError, UsageError
from ltsp.host.open_for_write import Writer
from ltsp.host.process import KernelObject, Process
from ltsp.settings.image_options import ImageOptions
from ltsp.source.disk.disk_files import DiskFiles, describe_writer
from ltsp.source.spec import DiskOptions


@pytest.fixture
def home(tmp_path):
    for path in ("here/disk", "here/base", "here/below/base", "there/base", "there/deep/base", "secret"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def read(home, name: str, *allowed: str) -> str:
    with DiskFiles([str(home / each) for each in allowed]) as files:
        files.open(str(home / "here/disk"))
        with files.open_sibling(str(home / "here/disk"), name) as file:
            return file.read().decode()


@pytest.mark.parametrize("name", ["base", "./base", "../here/base", "below/../base"])
def test_a_file_of_the_same_directory_is_opened(home, name):
    assert read(home, name) == "here/base"


def test_a_path_of_the_same_directory_is_opened(home):
    assert read(home, str(home / "here/base")) == "here/base"


def test_the_directory_of_a_disk_is_where_its_link_leads(home):
    (home / "link").symlink_to("here/disk")
    with DiskFiles() as files, files.open_sibling(str(home / "link"), "base") as file:
        assert file.read() == b"here/base"


OUTSIDE = [
    "../secret",
    "../there/base",
    "below/base",
    "/etc/passwd",
    "../here/../secret",
    "..",
    "/",
    "link",
    "linked/base",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_else_is_opened(home, name):
    (home / "here/link").symlink_to("../secret")
    (home / "here/linked").symlink_to("../there")
    with pytest.raises(SourceError, match="outside its directory"):
        read(home, name)


@pytest.mark.parametrize("name", ["../there/base", "../there/deep/base"])
def test_a_directory_that_is_allowed_is_searched(home, name):
    assert read(home, name, "there") == name.removeprefix("../")


def test_a_link_out_of_an_allowed_directory_is_not_followed(home):
    (home / "there/link").symlink_to("../secret")
    with pytest.raises(SourceError, match="outside its directory"):
        read(home, "../there/link", "there")


def test_a_directory_whose_name_only_begins_like_an_allowed_one_is_not_allowed(home):
    (home / "there-too").mkdir()
    (home / "there-too/base").write_text("no")
    with pytest.raises(SourceError, match=r"use --allow-backing .*there-too"):
        read(home, "../there-too/base", "there")


def test_a_name_cannot_reach_the_terminal(home):
    with pytest.raises(SourceError) as caught:
        read(home, "../\x1b[31mred")
    assert caught.value.message.isprintable()
    assert caught.value.hint.isprintable()


def test_what_is_missing_is_named_with_its_place(home):
    with pytest.raises(SourceError, match=f"put it at {home}/here/nothing"):
        read(home, "nothing")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_opened(home, make):
    make(home / "here/odd")
    with pytest.raises(SourceError, match=r"^it needs .*, which is not a regular file"):
        read(home, "odd")


def test_a_fifo_is_not_a_disk(home):
    os.mkfifo(home / "fifo")
    with DiskFiles() as files, pytest.raises(SourceError, match="is not a file or block device"):
        files.open(str(home / "fifo"))


@pytest.mark.parametrize("which", ["here/disk", "here/base"])
def test_a_change_of_any_of_its_files_is_found(home, which):
    with DiskFiles() as files:
        files.open(str(home / "here/disk"))
        files.open_sibling(str(home / "here/disk"), "base").close()
        files.check_unchanged()
        os.utime(home / which, (1, 1))
        with pytest.raises(FileChanged, match=which):
            files.check_unchanged()


@pytest.mark.parametrize("which", ["here/disk", "here/base"])
def test_a_disk_that_others_write_to_is_refused_but_with_force(home, which):
    with (home / which).open("ab") as output, subprocess.Popen(["sleep", "60"], stdout=output) as sleep:
        try:
            with pytest.raises(LockHeld, match=rf"sleep \(process {sleep.pid}\) has it open for writing"):
                read(home, "base")
            with DiskFiles(force=True) as files:
                files.open(str(home / which))
                files.check_unchanged()
        finally:
            sleep.kill()


@pytest.mark.root
def test_a_device_that_is_mounted_is_refused_but_with_force(tmp_path):
    disk, place = tmp_path / "disk", tmp_path / "mounted"
    disk.write_bytes(bytes(4 << 20))
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    made = subprocess.run(["losetup", "-f", "--show", disk], check=True, capture_output=True, text=True)
    device = made.stdout.strip()
    try:
        with DiskFiles() as files:
            files.open(device)
        subprocess.run(["mount", device, place], check=True)
        try:
            with DiskFiles() as files, pytest.raises(LockHeld, match="it is mounted"):
                files.open(device)
            with DiskFiles(force=True) as files:
                files.open(device)
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_writers_are_described_in_printable_text():
    assert describe_writer(Writer(None, holds_lock=True)) == "a process not visible from here has locked it"
    assert (
        describe_writer(Writer(Process(7, "/usr/bin/qemu\x1b -m 1"), holds_lock=True))
        == "qemu\\x1b (process 7) has locked it"
    )
    assert (
        describe_writer(Writer(KernelObject("loop device /dev/loop0"), holds_lock=False))
        == "loop device /dev/loop0 has it open for writing"
    )


def test_a_missing_directory_of_allow_backing_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--allow-backing: no such directory: .*/none"):
        DiskOptions.of(ImageOptions(allow_backing=(str(tmp_path), str(tmp_path / "none"))))
