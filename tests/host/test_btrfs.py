"""Subvolumes by the calls of the kernel, compared with what the btrfs of the distribution tells."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager

import pytest

from corpus.btrfs_disk import btrfs_disk, subvolume, subvolumes
from ltsp.host import btrfs
from ltsp.host.btrfs import NestedSubvolume, SubvolumePath
from ltsp.host.mounts import read_mounts
from ltsp.host.system_call import MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, create_mount

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path):
    with btrfs_disk(tmp_path) as point:
        yield point


@contextmanager
def opened(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def number(path):
    done = subprocess.run(["btrfs", "inspect-internal", "rootid", path], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_a_directory_is_found_in_its_subvolume(disk):
    root = subvolume(disk / "@")
    deep = root / "srv/a b/lab"
    deep.mkdir(parents=True)
    for path, inside in ((deep, b"srv/a b/lab"), (root, b""), (disk, b"")):
        with opened(path) as directory:
            assert btrfs.find_subvolume(directory) == SubvolumePath(number(path), inside)


def test_nested_subvolumes_are_found_however_many(disk):
    root = subvolume(disk / "@")
    (root / "var/lib").mkdir(parents=True)
    made = [subvolume(root / "var/lib/machines"), subvolume(root / "opt")]
    subvolume(root / "opt/inner")
    many = [root / f"many{count}" for count in range(300)]
    subprocess.run(["sh", "-ec", 'for name; do btrfs -q subvolume create "$name"; done', "sh", *many], check=True)
    with opened(root) as directory:
        assert sorted(btrfs.list_nested_subvolumes(directory), key=lambda each: each.path) == sorted(
            (NestedSubvolume(number(path), os.fsencode(path.relative_to(root))) for path in (*made, *many)),
            key=lambda each: each.path,
        )


def test_a_snapshot_stays_as_the_subvolume_was_and_is_removed_while_it_is_open(disk):
    root = subvolume(disk / "@")
    (root / "file").write_text("before")
    with opened(root) as origin, opened(disk) as place:
        btrfs.create_snapshot(origin, place, b"still")
        (root / "file").write_text("after")
        still = disk / "still"
        assert (still / "file").read_text() == "before"
        with pytest.raises(OSError, match="Read-only"):
            (still / "new").touch()
        with (still / "file").open() as file:
            btrfs.remove_subvolume(place, b"still")
            assert file.read() == "before"
        assert subvolumes(disk) == ["@"]
        with pytest.raises(FileNotFoundError):
            btrfs.remove_subvolume(place, b"still")


def test_a_directory_is_not_a_subvolume(disk):
    (disk / "directory").mkdir()
    with opened(disk / "directory") as directory, opened(disk) as place:
        with pytest.raises(OSError, match="Invalid argument"):
            btrfs.create_snapshot(directory, place, b"still")
        with pytest.raises(OSError, match=r"Invalid argument|Not a directory"):
            btrfs.remove_subvolume(place, b"directory")
    assert (disk / "directory").exists()


def test_another_file_system_has_no_subvolumes():
    with opened("/proc") as directory, pytest.raises(OSError, match="Inappropriate ioctl") as raised:
        list(btrfs.list_nested_subvolumes(directory))
    assert raised.value.errno == errno.ENOTTY


def test_a_subvolume_is_mounted_by_its_number_in_private(disk):
    root = subvolume(disk / "@")
    (root / "file").write_text("there")
    before = read_mounts()
    device = next(mount.source for mount in before if mount.mount_point == os.fsencode(disk))
    options = {b"subvolid": b"%d" % number(root)}
    mounted = create_mount(b"btrfs", device, options, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    try:
        with opened(f"/proc/self/fd/{mounted}") as there, opened(root) as same:
            assert os.listdir(there) == ["file"]
            assert btrfs.read_uuid(there) == btrfs.read_uuid(same)
            assert list(btrfs.list_devices(same)) == [device]
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("new", dir_fd=mounted)
        assert read_mounts() == before
    finally:
        os.close(mounted)
    with pytest.raises(FileNotFoundError):
        create_mount(b"btrfs", device, {b"subvolid": b"4711"}, 0)
    with pytest.raises(OSError, match=r".") as raised:
        create_mount(b"nosuchthing", device, {}, 0)
    assert raised.value.errno == errno.ENODEV
