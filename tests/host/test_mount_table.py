"""mountinfo as values, and which mounts one meets on the way down."""

from __future__ import annotations

from ltsp.host.mounts import Mount, find_mount, find_mounts_below, parse_mounts, read_mounts

ROOT = b"22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro\n"


def points(text, path=b"/", mount_id=22):
    return {point: mount.id for point, mount in find_mounts_below(parse_mounts(text), path, mount_id).items()}


def test_a_line_becomes_a_mount():
    text = (
        b"36 35 0:32 /@/with\\040space /mnt\\011tab rw,noatime master:1 shared:2 - btrfs /dev/sda\\0401 rw,subvol=/@\n"
    )
    assert parse_mounts(text) == [
        Mount(
            id=36,
            parent_id=35,
            device=(0, 32),
            root=b"/@/with space",
            mount_point=b"/mnt\ttab",
            kind="btrfs",
            source=b"/dev/sda 1",
            options=frozenset({b"rw", b"subvol=/@"}),
        )
    ]


def test_the_table_of_this_process_is_understood():
    assert any(mount.mount_point == b"/" for mount in read_mounts())


def test_mounts_are_met_in_the_order_of_their_paths_and_relative_to_the_directory():
    text = ROOT + (
        b"30 22 8:3 / /srv/lab/usr rw - ext4 /dev/sda3 rw\n"
        b"31 30 8:4 / /srv/lab/usr/local rw - ext4 /dev/sda4 rw\n"
        b"32 22 8:5 / /srv/laboratory rw - ext4 /dev/sda5 rw\n"
        b"33 22 8:6 / /home rw - ext4 /dev/sda6 rw\n"
    )
    assert list(points(text, b"/srv/lab").items()) == [(b"usr", 30), (b"usr/local", 31)]


def test_of_two_mounts_on_one_point_the_upper_is_met():
    text = ROOT + (
        b"40 22 0:50 / /boot/efi rw - autofs systemd-1 rw\n"
        b"41 40 8:1 / /boot/efi rw - vfat /dev/sda1 rw\n"
        b"42 41 8:9 / /boot/efi/deep rw - ext4 /dev/sda9 rw\n"
    )
    assert points(text) == {b"boot/efi": 41, b"boot/efi/deep": 42}


def test_a_mount_that_a_later_one_hides_is_not_met():
    text = ROOT + (
        b"50 22 8:3 / /mnt/disk rw - ext4 /dev/sda3 rw\n"
        b"51 22 0:60 / /mnt rw - tmpfs tmpfs rw\n"
        b"52 51 8:4 / /mnt/other rw - ext4 /dev/sda4 rw\n"
    )
    assert points(text) == {b"mnt": 51, b"mnt/other": 52}


def test_what_is_mounted_on_the_directory_itself_is_not_below_it():
    text = ROOT + (b"60 22 8:3 / /srv/lab rw - ext4 /dev/sda3 rw\n61 60 8:4 / /srv/lab/usr rw - ext4 /dev/sda4 rw\n")
    assert points(text, b"/srv/lab", 60) == {b"usr": 61}
    assert points(text, b"/srv/lab", 22) == {}


def test_without_mount_ids_the_last_mount_that_holds_the_path_counts():
    text = ROOT + (
        b"60 22 8:3 / /srv rw - ext4 /dev/sda3 rw\n"
        b"61 60 8:4 / /srv/lab/usr rw - ext4 /dev/sda4 rw\n"
        b"62 22 8:5 / /boot rw - ext4 /dev/sda5 rw\n"
    )
    assert points(text, b"/srv/lab", None) == {b"usr": 61}


def test_a_root_that_is_its_own_parent_ends():
    assert points(b"22 22 0:2 / / rw - rootfs rootfs rw\n" + ROOT.replace(b"22 1", b"23 22")) == {}


def test_the_mount_of_a_directory_is_found_by_its_number_or_by_its_path():
    mounts = parse_mounts(ROOT + b"30 22 8:3 / /usr rw - ext4 /dev/sda3 rw\n31 30 8:4 / /usr rw - ext4 /dev/sda4 rw\n")
    assert find_mount(mounts, b"/usr/lib", 31).source == b"/dev/sda4"
    assert find_mount(mounts, b"/usr/lib", None).source == b"/dev/sda4"
    assert find_mount(mounts, b"/usrlib", None).source == b"/dev/sda2"
    assert find_mount(mounts, b"/usr/lib", 99) is None
