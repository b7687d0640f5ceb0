"""What sysfs says of the medium below a mount, on a made-up /sys."""

from __future__ import annotations

import pytest

from ltsp.host.block_device import BlockDevice, find_block_device
from ltsp.host.mounts import Mount


def mount(major, minor):
    return Mount(1, 0, (major, minor), b"/", b"/x", "ext4", b"/dev/x")


@pytest.fixture
def sysfs(tmp_path):
    def disk(name, number, removable="0", partitions=(), slaves=(), loop=False):
        directory = tmp_path / "block" / name
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{number}\n")
        (directory / "removable").write_text(f"{removable}\n")
        (tmp_path / "dev/block").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev/block" / number).symlink_to(directory)
        for index, other in enumerate(partitions, 1):
            partition = directory / f"{name}{index}"
            partition.mkdir()
            (partition / "partition").write_text(f"{index}\n")
            (partition / "dev").write_text(f"{other}\n")
            (tmp_path / "dev/block" / other).symlink_to(partition)
        if loop:
            (directory / "loop").mkdir()
        if slaves:
            (directory / "slaves").mkdir()
        for slave in slaves:
            (directory / "slaves" / slave.rpartition("/")[2]).symlink_to(tmp_path / "block" / slave)

    disk("sda", "8:0", partitions=["8:1"])
    disk("sdb", "8:16", removable="1", partitions=["8:17"])
    disk("loop0", "7:0", loop=True)
    disk("dm-0", "253:0", slaves=["sda/sda1"])
    disk("dm-1", "253:1", slaves=["dm-0", "sdb/sdb1"])
    return str(tmp_path)


@pytest.mark.parametrize(
    ("number", "medium"),
    {
        "a partition of a fixed disk": ((8, 1), BlockDevice()),
        "a partition of a stick": ((8, 17), BlockDevice(is_removable=True)),
        "a stick without partitions": ((8, 16), BlockDevice(is_removable=True)),
        "a loop device": ((7, 0), BlockDevice(is_loop=True)),
        "a logical volume": ((253, 0), BlockDevice()),
        "an encrypted volume over a volume and a stick": ((253, 1), BlockDevice(is_removable=True)),
        "no device at all": ((0, 50), BlockDevice()),
    }.values(),
)
def test_the_disk_below_decides(sysfs, number, medium):
    assert find_block_device(mount(*number), sysfs) == medium
