"""Which mounts belong to the image: tables of real machines, and what becomes of each line."""

from __future__ import annotations

import pytest

from ltsp.host.block_device import BlockDevice
from ltsp.host.mounts import find_mounts_below, parse_mounts
from ltsp.inspection.mount_plan import decide_mounts

ROOT = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"

SERVER = (
    ROOT
    + """\
23 22 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
24 22 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
25 22 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=8G
26 25 0:23 / /dev/pts rw,nosuid,noexec,relatime shared:3 - devpts devpts rw
27 22 0:24 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw
28 27 0:25 / /run/lock rw,nosuid,nodev,noexec,relatime shared:6 - tmpfs tmpfs rw
29 24 0:30 / /proc/sys/fs/binfmt_misc rw,relatime shared:13 - autofs systemd-1 rw,fd=29
30 22 8:1 / /boot rw,relatime shared:30 - ext4 /dev/sda1 rw
31 30 0:31 / /boot/efi rw,relatime shared:31 - autofs systemd-1 rw
32 31 8:3 / /boot/efi rw,relatime shared:32 - vfat /dev/sda3 rw,fmask=0077
33 22 253:0 / /usr rw,relatime shared:33 - xfs /dev/mapper/vg-usr rw
34 22 253:1 / /var rw,relatime shared:34 - ext4 /dev/mapper/vg-var rw
35 34 253:2 / /var/log rw,relatime shared:35 - ext4 /dev/mapper/vg-log rw
36 22 253:3 / /home rw,relatime shared:36 - ext4 /dev/mapper/vg-home rw
37 22 253:4 / /srv rw,relatime shared:37 - ext4 /dev/mapper/vg-srv rw
38 22 7:1 / /snap/core/1 ro,nodev,relatime shared:38 - squashfs /dev/loop1 ro
39 22 0:40 / /opt/shared rw,relatime shared:39 - nfs4 server:/opt/shared rw,addr=192.168.67.2
40 22 0:41 / /opt/remote rw,relatime shared:40 - fuse.sshfs alice@host:/ rw,user_id=0
41 22 8:17 / /opt/stick rw,relatime shared:41 - ext4 /dev/sdb1 rw
42 22 8:2 /data/local /usr/local rw,relatime shared:42 - ext4 /dev/sda2 rw
43 34 0:50 / /var/lib/docker/overlay2/abc/merged rw,relatime - overlay overlay rw,lowerdir=/l
44 22 8:33 / /data rw,relatime shared:44 - ext4 /dev/sdc1 rw
45 22 0:51 / /tmp rw,nosuid,nodev shared:45 - tmpfs tmpfs rw
46 34 7:2 / /var/lib/thing/disk rw,relatime - ext4 /dev/loop2 rw
47 34 0:52 / /var/cache/auto rw,relatime - autofs /etc/auto.cache rw
"""
)

BTRFS = """\
22 1 0:30 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 rw,ssd,subvolid=256,subvol=/@
23 22 0:31 /@home /home rw,relatime shared:2 - btrfs /dev/nvme0n1p2 rw,subvolid=257,subvol=/@home
24 22 0:32 /@/var /var rw,relatime shared:3 - btrfs /dev/nvme0n1p2 rw,subvolid=258,subvol=/@/var
25 22 0:33 /@/.snapshots /.snapshots rw,relatime shared:4 - btrfs /dev/nvme0n1p2 rw,subvolid=259,subvol=/@/.snapshots
26 22 0:30 /@/data/opt /opt rw,relatime shared:5 - btrfs /dev/nvme0n1p2 rw,subvolid=256,subvol=/@
27 22 0:34 /@/usr\\040local /usr/local rw,relatime - btrfs /dev/nvme0n1p2 rw,subvol=/@/usr\\040local
"""

ZFS = """\
22 1 0:26 / / rw,relatime shared:1 - zfs rpool/ROOT/ubuntu rw,xattr,posixacl
23 22 0:27 / /usr/local rw,relatime shared:2 - zfs rpool/ROOT/ubuntu/usr/local rw
24 22 0:28 / /home/alice rw,relatime shared:3 - zfs rpool/USERDATA/alice rw
25 22 8:5 / /boot/grub rw,relatime shared:4 - ext4 /dev/sda5 rw
"""

CONTAINER = """\
22 1 0:90 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
23 22 0:91 / /proc rw - proc proc rw
24 22 8:1 /var/lib/docker/containers/1/hosts /etc/hosts rw - ext4 /dev/sda1 rw
25 22 0:92 / /usr ro - overlay sysext ro,lowerdir=/l
"""


def media(mount):
    return BlockDevice(is_removable=mount.source == b"/dev/sdb1", is_loop=mount.device[0] == 7)


def plan(text, path=b"/", at=""):
    return {
        decision.path: "" if decision.included else decision.reason
        for decision in decide_mounts(find_mounts_below(parse_mounts(text.encode()), path, 22), media, at)
    }


def test_a_server_keeps_what_holds_its_system():
    assert [path for path, reason in plan(SERVER).items() if not reason] == [
        "boot",
        "boot/efi",
        "usr",
        "var",
        "var/log",
    ]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("home", "home directories"),
        ("srv", "data that this machine serves"),
        ("data", "not a system directory"),
        ("proc", "exists only while this machine is running"),
        ("tmp", "exists only while this machine is running"),
        ("snap/core/1", "an image"),
        ("opt/shared", "a network file system"),
        ("opt/remote", "a FUSE file system"),
        ("opt/stick", "on a removable medium"),
        ("usr/local", "a bind mount of /data/local"),
        ("var/lib/docker/overlay2/abc/merged", "containers"),
        ("var/lib/thing/disk", "an image file"),
        ("var/cache/auto", "mounted on demand"),
    ],
)
def test_what_stays_out_has_a_reason(path, reason):
    assert (
        plan(SERVER.replace("33 22 253:0 / /usr rw,relatime shared:33 - xfs /dev/mapper/vg-usr rw\n", ""))[path]
        == reason
    )


def test_mounts_below_an_excluded_mount_are_not_reported():
    assert not {"dev/pts", "run/lock", "proc/sys/fs/binfmt_misc"} & plan(SERVER).keys()


def test_subvolumes_are_file_systems_and_binds_of_their_directories_are_not():
    assert plan(BTRFS) == {
        ".snapshots": "snapshots",
        "home": "home directories",
        "opt": "a bind mount of /@/data/opt",
        "usr/local": "",
        "var": "",
    }


def test_data_sets_of_zfs_are_local():
    assert plan(ZFS) == {"boot/grub": "", "home/alice": "home directories", "usr/local": ""}


def test_a_container_with_extensions_keeps_its_usr():
    assert plan(CONTAINER) == {
        "etc/hosts": "a bind mount of /var/lib/docker/containers/1/hosts",
        "proc": "exists only while this machine is running",
        "usr": "",
    }


def test_a_loop_device_may_hold_a_directory_that_installers_name():
    text = ROOT + "30 22 7:0 / /usr rw - ext4 /dev/loop0 rw\n31 22 7:1 / /opt/thing rw - ext4 /dev/loop1 rw\n"
    assert plan(text) == {"opt/thing": "an image file", "usr": ""}


def test_a_part_of_a_system_is_judged_by_its_place_there():
    text = ROOT + "30 22 8:3 / /mnt/parts/local rw - ext4 /dev/sda3 rw\n"
    assert plan(text, b"/mnt/parts") == {"local": "not a system directory"}
    assert plan(text, b"/mnt/parts", at="usr") == {"local": ""}


def test_names_are_those_of_the_tree():
    text = ROOT + "30 22 8:3 / /opt/a\\040b\\134\udcff rw - ext4 /dev/sda3 rw\n"
    mounts = find_mounts_below(parse_mounts(text.encode("utf-8", "surrogateescape")), b"/", 22)
    decision = decide_mounts(mounts, media)[0]
    assert (decision.path, decision.description) == ("opt/a b\\\udcff", "ext4 on /dev/sda3")


def test_only_servers_and_daemons_may_let_one_wait():
    decisions = decide_mounts(find_mounts_below(parse_mounts(SERVER.encode()), b"/", 22), media)
    assert {decision.path for decision in decisions if decision.may_hang} == {
        *("opt/shared", "opt/remote", "var/cache/auto"),
    }


OSTREE = """\
22 1 0:30 /root/ostree/deploy/fedora/deploy/abc.0 / rw - btrfs /dev/vda3 rw,subvol=/root
23 22 0:30 /root /sysroot ro - btrfs /dev/vda3 rw,subvol=/root
24 22 0:30 /root/ostree/deploy/fedora/deploy/abc.0/usr /usr ro - btrfs /dev/vda3 rw,subvol=/root
25 22 0:30 /root/ostree/deploy/fedora/var /var rw - btrfs /dev/vda3 rw,subvol=/root
26 22 252:2 / /boot rw - ext4 /dev/vda2 rw
27 25 0:31 /home /var/home rw - btrfs /dev/vda3 rw,subvol=/home
"""


def test_a_running_ostree_system_is_whole():
    """Its /var and /usr are bound from below the deployment's own root, and hold the system all the same."""
    taken = {path for path, reason in plan(OSTREE).items() if not reason}
    assert taken == {"boot", "usr", "var"}
