"""Which kind of snapshot is taken of a mount, from the mount table; and what is refused before any work."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

import pytest

from ltsp.errors import LtspError, SourceError
from ltsp.host import mounts
from ltsp.host.mounts import Mount
from ltsp.host.root import RootDirectory
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.option import declared_options
from ltsp.source.directory import directory
from ltsp.source.snapshot import snapshot
from ltsp.source.snapshot.frozen import FrozenMount, SnapshotBase
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

BTRFS = b"29 1 0:24 /@ / rw,relatime shared:1 - btrfs /dev/sda2 rw,subvol=/@"
ZFS = b"29 1 0:24 / / rw,relatime shared:1 - zfs rpool/ROOT/debian rw,xattr,posixacl"
EXT4 = b"29 1 253:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw"
PLAIN = b"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
OVERLAY = b"29 1 0:40 / / rw,relatime - overlay overlay rw,lowerdir=/l"


@pytest.fixture
def server(monkeypatch):
    """Run by root; with the programs of ZFS, and one thin volume."""
    monkeypatch.setattr(snapshot.os, "geteuid", lambda: 0)
    monkeypatch.setattr(snapshot.zfs_snapshot, "is_installed", lambda: True)
    monkeypatch.setattr(snapshot.lvm_snapshot, "can_snapshot", lambda mount: mount.device[0] == 253)
    monkeypatch.setattr(snapshot.lvm_snapshot, "has_thin_volume", lambda mount: mount.device[0] == 253)
    monkeypatch.setattr(snapshot.lvm_snapshot, "check_programs", lambda: None)
    return monkeypatch


def kind(line, asked):
    return snapshot._choose_kind(Mount.parse(line), asked)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (BTRFS, {"auto": "btrfs", "btrfs": "btrfs"}),
        (ZFS, {"auto": "zfs", "zfs": "zfs"}),
        (EXT4, {"auto": "lvm", "lvm": "lvm"}),
        (PLAIN, {}),
        (OVERLAY, {}),
    ],
)
def test_the_file_system_decides_and_what_was_asked_for(line, kinds):
    assert {asked: found for asked in snapshot.KINDS if (found := kind(line, asked))} == kinds


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("line", [BTRFS, ZFS, EXT4])
def test_what_is_mounted_read_only_needs_none(line):
    still = (
        line.replace(b" rw,subvol", b" ro,subvol").replace(b"debian rw", b"debian ro").replace(b"root rw", b"root ro")
    )
    assert still != line
    assert [kind(still, asked) for asked in snapshot.KINDS] == [""] * len(snapshot.KINDS)


def test_auto_takes_none_that_is_not_free_or_not_there(server):
    server.setattr(snapshot.zfs_snapshot, "is_installed", lambda: False)
    server.setattr(snapshot.lvm_snapshot, "has_thin_volume", lambda _mount: False)
    assert (kind(ZFS, "auto"), kind(EXT4, "auto"), kind(EXT4, "lvm")) == ("", "", "lvm")


def test_only_root_takes_them(server):
    server.setattr(snapshot.os, "geteuid", lambda: 1000)
    assert [kind(BTRFS, asked) for asked in ("auto", "btrfs")] == ["", ""]


def refusal(monkeypatch, line, asked):
    """What is said of a directory on this mount; nothing where it is not refused."""
    monkeypatch.setattr(snapshot, "find_mount", lambda _root: Mount.parse(line) if line else None)
    with RootDirectory.open(b"/") as root:
        try:
            snapshot.check_can_snapshot(asked, root, "/srv/lab")
        except LtspError as error:
            return str(error)
    return ""


@pytest.mark.parametrize(
    ("line", "asked", "says"),
    [
        (PLAIN, "lvm", "cannot snapshot /srv/lab with lvm: its file system is ext4 on /dev/sda1"),
        (PLAIN, "zfs", "cannot snapshot /srv/lab with zfs: its file system is ext4 on /dev/sda1"),
        (BTRFS, "lvm", "cannot snapshot /srv/lab with lvm: its file system is btrfs on /dev/sda2"),
        (OVERLAY, "btrfs", "cannot snapshot /srv/lab with btrfs: its file system is overlay: "),
        (b"", "btrfs", "cannot snapshot /srv/lab with btrfs: cannot determine its file system"),
    ],
)
def test_the_device_of_the_source_is_reported(server, line, asked, says):
    said = refusal(server, line, asked)
    assert says in said
    assert "--snapshot=auto" in said


@pytest.mark.parametrize(
    ("line", "asked"), [(BTRFS, "btrfs"), (ZFS, "zfs"), (EXT4, "lvm"), (PLAIN, "auto"), (b"", "none")]
)
def test_what_is_possible_is_not_refused(server, line, asked):
    assert refusal(server, line, asked) == ""


def test_a_user_who_is_not_root_is_informed(server):
    server.setattr(snapshot.os, "geteuid", lambda: 1000)
    assert refusal(server, BTRFS, "btrfs") == (
        "a snapshot of /srv/lab requires root: run as root, or give --snapshot=none"
    )
    assert refusal(server, BTRFS, "auto") == ""


def test_a_missing_program_is_named_with_its_package(server):
    server.setattr(snapshot.zfs_snapshot, "is_installed", lambda: False)
    assert "install zfsutils-linux" in refusal(server, ZFS, "zfs")


def test_a_mount_elsewhere_has_its_directory_in_the_file_system():
    with RootDirectory.open(b"/usr/lib") as root:
        bound = Mount.parse(b"29 1 8:1 /there /usr rw - ext4 /dev/sda1 rw")
        assert snapshot.find_snapshot_base("", bound, root).inner_path == b"there/" + os.path.relpath(
            root.path(), b"/usr"
        )
        assert snapshot.find_snapshot_base("", Mount.parse(b"29 1 8:1 / /opt rw - ext4 /dev/sda1 rw"), root) is None


def test_the_option_has_each_kind():
    (option,) = (each for each in declared_options(ImageOptions) if each.name == "snapshot")
    assert option.kind.choices == snapshot.KINDS
    assert option.default == "auto"


def test_an_error_of_a_requested_kind_is_raised_and_one_of_auto_is_reported(server):
    @contextmanager
    def failing(_live, _wanted):
        raise OSError(28, "No space left on device")
        yield

    server.setattr(snapshot, "_TAKE_SNAPSHOT", {"btrfs": failing})
    with RootDirectory.open(b"/") as root, ExitStack() as opened:
        live = snapshot.find_snapshot_base("", Mount.parse(BTRFS), root)
        stills, (part,) = snapshot.take_snapshots([live], "auto", lambda *_: None, opened)
        assert (list(stills), part.reason) == ([], "no space left on device")
        with pytest.raises(SourceError, match=r"cannot snapshot the source with btrfs: no space left"):
            snapshot.take_snapshots([live], "btrfs", lambda *_: None, opened)


def test_root_of_a_container_reads_the_live_directory_without_a_word(server):
    @contextmanager
    def forbidden(_live, _wanted):
        raise PermissionError(1, "Operation not permitted")
        yield

    server.setattr(snapshot, "_TAKE_SNAPSHOT", {"btrfs": forbidden})
    with RootDirectory.open(b"/") as root, ExitStack() as opened:
        live = snapshot.find_snapshot_base("", Mount.parse(BTRFS), root)
        assert snapshot.take_snapshots([live], "auto", lambda *_: None, opened) == ([], [])
        with pytest.raises(SourceError, match="operation not permitted"):
            snapshot.take_snapshots([live], "btrfs", lambda *_: None, opened)


@pytest.mark.parametrize(("line", "shown"), [(BTRFS, ""), (ZFS, "ZFS"), (EXT4, "LVM")])
def test_a_snapshot_of_a_kind_that_has_not_met_a_real_pool_is_called_experimental(server, tmp_path, line, shown):
    """One line of the plan, however many of them there are."""

    @contextmanager
    def taken(base, _wanted):
        with RootDirectory.open(os.fsencode(tmp_path)) as root:
            yield [FrozenMount(path, taken_kind, "vg0/root", root, 0) for path in (base.path, "nested")]

    taken_kind = kind(line, "auto")
    server.setattr(snapshot, "_TAKE_SNAPSHOT", dict.fromkeys(snapshot.KINDS, taken))
    server.setattr(mounts, "find_mount", lambda *_: Mount.parse(line))
    server.setattr(directory, "_find_bases", lambda roots, _: [SnapshotBase("", Mount.parse(line), roots[""], b"")])
    source = directory.DirectorySource("lab", str(tmp_path), "chroot", snapshots="auto")
    assert source.plan().warnings == ()
    with source.open(select_all, Faults()):
        assert len(source.plan().snapshots) == 2
        warnings = source.plan().warnings
    assert len(warnings) == bool(shown)
    assert all(f"{shown} snapshots are experimental" in warning for warning in warnings)


def test_the_manual_calls_them_experimental():
    (option,) = (each for each in declared_options(ImageOptions) if each.name == "snapshot")
    assert "LVM and ZFS are experimental" in option.details
