"""Block devices as sources: a logical volume or a partition that a virtual machine has for its disk."""

from __future__ import annotations

import subprocess

import pytest

from corpus.disks import attached, ext4
from corpus.system import make_system
from ltsp.errors import LockHeld, LtspError, SourceError
from ltsp.source.find import find_source
from ltsp.source.names import list_source_names
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@pytest.fixture
def disk(tmp_path):
    return ext4(tmp_path / "root.raw", make_system(tmp_path / "system"))


def test_a_device_is_a_disk_under_the_name_of_its_link(tmp_path, disk):
    base = tmp_path / "base"
    base.mkdir()
    with attached(disk) as device:
        (base / "lab.img").symlink_to(device)
        assert list_source_names(str(base)) == (["lab"], [])
        source = find_source("lab", str(base))
        assert source.name == "lab"
        with source.open(select_all, Faults()) as tree:
            assert tree.get("usr/bin/tool")


def test_a_device_that_is_mounted_is_refused(tmp_path, disk):
    with attached(disk) as device:
        subprocess.run(["mount", "-o", "ro", device, tmp_path / "system"], check=True)
        try:
            with pytest.raises(LockHeld, match="it is mounted"):
                find_source(device, "/nowhere")
        finally:
            subprocess.run(["umount", tmp_path / "system"], check=True)


def test_an_archive_on_a_device_and_a_device_without_a_disk_are_named(tmp_path):
    subprocess.run(["tar", "cf", tmp_path / "some.tar", "/etc/passwd"], check=True, stderr=subprocess.DEVNULL)
    with attached(tmp_path / "some.tar") as device, pytest.raises(SourceError, match="it holds a tar archive"):
        find_source(device, "/nowhere")
    with pytest.raises(LtspError, match="not a file, disk or directory"):
        find_source("/dev/zero", "/nowhere")
