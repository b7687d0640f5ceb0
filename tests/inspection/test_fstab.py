from __future__ import annotations

import pytest

from ltsp.inspection.fstab import FstabDevice, FstabEntry, parse_device, parse_entries, parse_system_entries

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
    assert [entry.subvolume for entry in parse_entries(FEDORA)] == ["root", "", "", "home", "@var"]


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
    assert parse_entries("LABEL=a\\040b /opt/x\\040y ext4 nofail\n") == [
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
