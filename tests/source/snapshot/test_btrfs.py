"""A directory on a btrfs that is read from snapshots: what is taken, and that nothing of them is seen or left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.btrfs_disk import btrfs_disk, subvolume, subvolumes
from corpus.system import make_system
from ltsp.errors import SourceError
from ltsp.host import btrfs, mounts
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.directory.writable import make_writable
from ltsp.source.snapshot.btrfs import SNAPSHOT_DIR
from ltsp.source.source import Snapshot
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, Metadata
from ltsp.tree.selection import Inclusion, select_all

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path):
    with btrfs_disk(tmp_path) as point:
        yield point


@pytest.fixture
def chroot(disk):
    """In a subvolume that is not the topmost one, as installers make it."""
    return make_system(subvolume(disk / "@") / "srv/lab")


def source(path, **options):
    return DirectorySource("lab", str(path), f"chroot {path}", **{"snapshots": "btrfs", **options})


def device(point):
    return next(os.fsdecode(mount.source) for mount in mounts.read_mounts() if mount.mount_point == os.fsencode(point))


def content(tree, path):
    with tree.get(path).content.open() as stream:
        return stream.read(1 << 20).decode()


def listed(tree):
    return sorted(path for path, _ in tree.walk() if path)


def test_files_are_read_as_they_were_when_it_was_opened(chroot, disk):
    faults = Faults()
    reading = source(chroot)
    (chroot / "etc/removed").write_text("was there")
    with reading.open(select_all, faults) as tree:
        (chroot / "etc/hostname").write_text("after\n")
        (chroot / "etc/removed").unlink()
        (chroot / "etc/new").touch()
        assert content(tree, "etc/hostname") == "server\n"
        assert content(tree, "etc/removed") == "was there"
        assert tree.get("etc/new") is None
        plan = reading.plan()
        assert plan.snapshots == (Snapshot("", "btrfs", device(disk)),)
        assert plan.is_frozen
        assert (plan.live_parts, plan.invalid_reason) == ((), "")
    assert not faults


def test_the_tree_is_that_of_the_live_directory(chroot):
    subvolume(chroot / "var/lib/machines")
    (chroot / "var/lib/machines/guest").write_text("guest")
    os.link(chroot / "etc/passwd", chroot / "etc/passwd-")
    with (
        source(chroot, snapshots="none").open(select_all, Faults()) as live,
        source(chroot).open(select_all, Faults()) as still,
    ):
        assert listed(still) == listed(live)
        for path, node in live.walk():
            assert node.metadata == still.get(path).metadata, path
        assert still.get("etc/passwd") is still.get("etc/passwd-")


def test_nothing_of_it_is_seen_by_others_and_nothing_is_left(chroot, disk):
    before, there = mounts.read_mounts(), sorted(chroot.rglob("*"))
    times = [path.lstat().st_mtime_ns for path in (disk, chroot, disk / "@")]
    with source(chroot).open(select_all, Faults()):
        assert mounts.read_mounts() == before
        assert sorted(chroot.rglob("*")) == there
        assert len(subvolumes(disk)) == 2
        assert (disk / SNAPSHOT_DIR).stat().st_mode & 0o777 == 0o700
    assert subvolumes(disk) == ["@"]
    assert sorted(os.listdir(disk)) == ["@"]
    assert [path.lstat().st_mtime_ns for path in (disk, chroot, disk / "@")] == times


def test_nested_subvolumes_are_read_from_snapshots_of_their_own(chroot, disk):
    outer = subvolume(chroot / "var/lib/outer")
    inner = subvolume(outer / "deep")
    subvolume(disk / "@/elsewhere")
    (inner / "file").write_text("before")
    reading = source(chroot)
    with reading.open(select_all, Faults()) as tree:
        (inner / "file").write_text("after")
        assert content(tree, "var/lib/outer/deep/file") == "before"
        paths = [each.path for each in reading.plan().snapshots]
        assert paths == ["", "var/lib/outer", "var/lib/outer/deep"]
    assert len(subvolumes(disk)) == 4


def test_of_nested_subvolumes_only_what_is_taken_in_is_snapshotted(chroot):
    for name in ("opt/kept", "opt/left", "opt/emptied"):
        subvolume(chroot / name)
        (chroot / name / "file").touch()
    takes = {"opt/left": Inclusion.NOTHING, "opt/emptied": Inclusion.EMPTIED}
    reading = source(chroot)
    with reading.open(lambda path, _: takes.get(path, Inclusion.ALL), Faults()) as tree:
        assert [each.path for each in reading.plan().snapshots] == ["", "opt/kept"]
        assert reading.plan().is_frozen
        assert sorted(tree.get("opt").entries) == ["emptied", "kept"]
        assert sorted(tree.get("opt/kept").entries) == ["file"]


def test_a_nested_subvolume_that_stays_empty_keeps_its_own_attributes(chroot):
    """In a snapshot of the outer one, the kernel shows a directory 0755 of root in its place."""
    chroot.joinpath("tmp").rmdir()
    tmp = subvolume(chroot / "tmp")
    (tmp / "file").touch()
    os.chown(tmp, 12, 34)
    tmp.chmod(0o1777)
    os.setxattr(tmp, "user.a", b"b")
    os.utime(tmp, (1, 1))
    with source(chroot).open(lambda path, _: Inclusion.EMPTIED if path == "tmp" else Inclusion.ALL, Faults()) as tree:
        shown = tree.get("tmp")
    assert isinstance(shown, Directory)
    assert shown.metadata == Metadata(0o1777, 12, 34, 1, (("user.a", b"b"),))
    assert shown.entries == {}


def test_a_nested_subvolume_with_a_swap_file_in_use_is_read_as_it_is(chroot, monkeypatch):
    """So is swap laid out, in order that the rest can have snapshots."""
    true = btrfs.create_snapshot

    def snapshot(root, place, name):
        if os.path.exists(f"/proc/self/fd/{root}/swapfile"):
            raise OSError(errno.ETXTBSY, "Text file busy")
        true(root, place, name)

    monkeypatch.setattr(btrfs, "create_snapshot", snapshot)
    (subvolume(chroot / "swap") / "swapfile").write_text("swap")
    reading = source(chroot)
    with reading.open(select_all, Faults()) as tree:
        plan = reading.plan()
        assert [each.path for each in plan.snapshots] == [""]
        assert [(part.path, part.reason) for part in plan.live_parts] == [("swap", "it contains an active swap file")]
        assert not plan.is_frozen
        assert content(tree, "swap/swapfile") == "swap"


def test_a_nested_subvolume_that_is_removed_meanwhile_is_not_an_empty_directory(chroot, monkeypatch):
    """auto reads the live directory then, where it is gone, and says so."""
    nested = subvolume(chroot / "opt/nested")
    (nested / "file").touch()
    true = btrfs.create_snapshot

    def snapshot(root, place, name):
        true(root, place, name)
        if nested.exists():
            subprocess.run(["btrfs", "-q", "subvolume", "delete", nested], check=True)

    monkeypatch.setattr(btrfs, "create_snapshot", snapshot)
    reading = source(chroot, snapshots="auto")
    with reading.open(select_all, Faults()) as tree:
        assert tree.get("opt").entries == {}
        (part,) = reading.plan().live_parts
        assert part.reason == "its subvolume /opt/nested was just removed"


def test_a_mount_over_a_nested_subvolume_hides_it(chroot, tmp_path):
    subvolume(chroot / "var/hidden")
    usr = chroot / "usr"
    content_of_usr = tmp_path / "content"
    content_of_usr.mkdir()
    (content_of_usr / "tool").write_text("of usr")
    subprocess.run(["mkfs.ext4", "-q", "-d", content_of_usr, tmp_path / "usr.ext4", "4M"], check=True)
    subvolume(usr / "share")
    subprocess.run(["mount", "-o", "loop", tmp_path / "usr.ext4", usr], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", chroot / "var"], check=True)
    reading = source(chroot)
    try:
        with reading.open(select_all, Faults()) as tree:
            plan = reading.plan()
            assert [each.path for each in plan.snapshots] == [""]
            assert not plan.is_frozen
            assert content(tree, "usr/tool") == "of usr"
            assert tree.get("usr/share") is None
            assert tree.get("var").entries.keys() == {"lib", "log", "hidden"} - {"hidden", "lib", "log"}
    finally:
        subprocess.run(["umount", chroot / "var", usr], check=True)


def test_each_mount_that_is_taken_in_has_a_snapshot_and_what_is_nested_in_it(chroot, disk):
    """Subvolumes that are mounted by themselves, as distributions have them."""
    var = subvolume(disk / "@var")
    (var / "lib").mkdir()
    (subvolume(var / "lib/nested") / "file").write_text("nested")
    subprocess.run(["mount", "-o", "subvol=@var", device(disk), chroot / "var"], check=True)
    reading = source(chroot)
    try:
        with reading.open(select_all, Faults()) as tree:
            assert [each.path for each in reading.plan().snapshots] == ["", "var", "var/lib/nested"]
            assert reading.plan().is_frozen
            assert content(tree, "var/lib/nested/file") == "nested"
    finally:
        subprocess.run(["umount", chroot / "var"], check=True)
    assert subvolumes(disk) == ["@", "@var", "@var/lib/nested"]


def test_output_directories_are_known_in_a_snapshot(chroot):
    (chroot / "srv/ltsp/images").mkdir(parents=True)
    (chroot / "srv/ltsp/images/old.img").touch()
    other = subvolume(chroot / "srv/tftp")
    (other / "kernel").touch()
    outputs = (f"{chroot}/srv/ltsp", f"{chroot}/srv/tftp")
    with source(chroot, excluded_directories=outputs).open(select_all, Faults()) as tree:
        assert tree.get("srv").entries == {}


@pytest.mark.parametrize("kind", ["btrfs", "none"])
def test_where_the_topmost_subvolume_is_the_source_the_snapshots_are_not_in_the_tree(disk, kind):
    """They have to lie in it, so that nothing but the name can tell. Another run may have its own there."""
    make_system(disk)
    before = disk.stat().st_mtime_ns
    with source(disk).open(select_all, Faults()) as other:
        assert listed(other) == sorted(path for path in listed(other) if not path.startswith(SNAPSHOT_DIR))
        with source(disk, snapshots=kind).open(select_all, Faults()) as tree:
            assert (disk / SNAPSHOT_DIR).exists()
            assert listed(tree) == listed(other)
            assert isinstance(tree.get(""), Directory)
            assert tree.get("").metadata == other.get("").metadata
    assert not (disk / SNAPSHOT_DIR).exists()
    assert disk.stat().st_mtime_ns == before


def test_two_at_once_leave_each_other_alone(chroot, disk):
    with source(chroot).open(select_all, Faults()) as first:
        with source(chroot).open(select_all, Faults()) as second:
            assert len(subvolumes(disk)) == 3
            assert listed(first) == listed(second)
        assert len(subvolumes(disk)) == 2
        assert content(first, "etc/hostname") == "server\n"
    assert subvolumes(disk) == ["@"]


KILLED = """
import os, signal, sys
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all
with DirectorySource("lab", sys.argv[1], "", snapshots="btrfs").open(select_all, Faults()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(chroot):
    source_code = Path(__file__).parent.parent.parent / "src"
    environment = {"PYTHONPATH": str(source_code), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", KILLED, chroot], env=environment, check=False)


def test_what_a_killed_run_has_left_goes_with_the_next_and_nothing_else_does(chroot, disk):
    subvolume(chroot / "opt/nested")
    own = subvolume(disk / "@/kept")
    with source(chroot).open(select_all, Faults()):
        living = set(subvolumes(disk))
        kill_one(chroot)
        first = set(subvolumes(disk)) - living
        kill_one(chroot)
        second = set(subvolumes(disk)) - living
        assert len(first) == len(second) == 2
        assert first.isdisjoint(second)
        with source(chroot).open(select_all, Faults()):
            assert set(subvolumes(disk)) > living
            assert second.isdisjoint(subvolumes(disk))
        assert set(subvolumes(disk)) == living
    assert subvolumes(disk) == ["@", "@/kept", "@/srv/lab/opt/nested"]
    assert own.exists()


def test_an_error_while_it_is_read_removes_it(chroot, disk):
    with pytest.raises(KeyError), source(chroot).open(select_all, Faults()):
        raise KeyError
    assert subvolumes(disk) == ["@"]
    assert os.listdir(disk) == ["@"]


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("@")])
def test_a_path_that_is_not_a_directory_is_named_and_stays(chroot, disk, make):
    make(disk / SNAPSHOT_DIR)
    with (
        pytest.raises(SourceError, match=r"cannot snapshot .* with btrfs: \.ltsp-snapshots .* not a directory"),
        source(chroot).open(select_all, Faults()),
    ):
        pass
    assert sorted(os.listdir(disk)) == [SNAPSHOT_DIR, "@"]


def test_a_place_that_others_can_write_to_is_not_used(chroot, disk):
    (disk / SNAPSHOT_DIR).mkdir(mode=0o777)
    (disk / SNAPSHOT_DIR).chmod(0o777)
    with (
        pytest.raises(
            SourceError, match=r"cannot snapshot .* with btrfs: \.ltsp-snapshots .* accessible to other users"
        ),
        source(chroot).open(select_all, Faults()),
    ):
        pass


def test_a_swap_file_in_use_forbids_it_and_auto_reads_the_live_directory(chroot, disk, monkeypatch):
    """As the kernel answers: ETXTBSY."""

    def busy(*_):
        raise OSError(errno.ETXTBSY, "Text file busy")

    monkeypatch.setattr(btrfs, "create_snapshot", busy)
    with pytest.raises(SourceError, match="swap file"), source(chroot).open(select_all, Faults()):
        pass
    reading = source(chroot, snapshots="auto")
    with reading.open(select_all, Faults()) as tree:
        assert content(tree, "etc/hostname") == "server\n"
        (part,) = reading.plan().live_parts
        assert (part.path, part.reason) == ("", "it contains an active swap file")
        assert not reading.plan().is_frozen
    assert os.listdir(disk) == ["@"]


def test_auto_takes_one_and_none_does_not(chroot):
    for kind, count in (("auto", 1), ("none", 0), ("zfs", 0), ("lvm", 0)):
        reading = source(chroot, snapshots=kind)
        with reading.open(select_all, Faults()):
            assert len(reading.plan().snapshots) == count


def test_auto_without_roots_rights_takes_none(chroot):
    for above in chroot.parents[:-1]:
        os.chmod(above, above.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        reading = source(chroot, snapshots="auto")
        with reading.open(select_all, Faults(skip_unreadable=True)):
            assert reading.plan().snapshots == ()
    finally:
        os.seteuid(0)


def test_what_is_mounted_read_only_stands_still_by_itself(chroot, disk):
    name = device(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    reading = source(chroot, snapshots="auto")
    with reading.open(select_all, Faults()):
        assert reading.plan().snapshots == ()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert device(disk) == name


def test_a_device_that_goes_by_another_name_is_found(chroot, monkeypatch):
    true = mounts.read_mounts
    monkeypatch.setattr(mounts, "read_mounts", lambda: [replace(mount, source=b"/dev/root") for mount in true()])
    with source(chroot).open(select_all, Faults()) as tree:
        assert content(tree, "etc/hostname") == "server\n"


def test_a_writable_view_is_mounted_over_the_live_directory(chroot, disk):
    """What commands change in it goes into the tree, as it does elsewhere."""

    def change(view):
        assert len(subvolumes(disk)) == 1
        Path(view, "etc/hostname").write_text("changed\n")

    reading = make_writable(source(chroot, snapshots="auto"), change, "PRE_IMAGE_x")
    with reading.open(select_all, Faults()) as tree:
        assert content(tree, "etc/hostname") == "changed\n"
        assert reading.plan().snapshots == ()
        assert not reading.plan().is_frozen
    with pytest.raises(SourceError, match=r"PRE_IMAGE_x uses LTSP_ROOT, .* btrfs snapshot: give --snapshot=none"):
        make_writable(source(chroot), change, "PRE_IMAGE_x")


@pytest.mark.parametrize("asked", ["lvm", "zfs"])
def test_a_kind_that_the_file_system_has_not_is_refused_before_anything_is_done(chroot, disk, asked):
    with pytest.raises(
        SourceError, match=rf"cannot snapshot .* with {asked}: its file system is btrfs on {device(disk)}: .*auto"
    ):
        source(chroot, snapshots=asked).check_snapshots()
    source(chroot, snapshots="btrfs").check_snapshots()
