from __future__ import annotations

import errno
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from corpus import kitchen_sink, tree_snapshot
from corpus.system import make_system
from ltsp.errors import LtspError, SourceError
from ltsp.host import mounts, namespaces
from ltsp.source.combine import CombinedSource
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.directory.writable import make_writable
from ltsp.source.squashfs import SquashfsSource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = pytest.mark.root


def taken(source) -> tree_snapshot.Snapshot:
    with source.open(select_all, Faults()) as tree:
        return tree_snapshot.of_tree(tree)


def directory(path, **fields) -> DirectorySource:
    return DirectorySource("lab", str(path), f"chroot {path}", **fields)


def nothing(_view: str) -> None:
    pass


def add(view: str) -> None:
    Path(view, "etc/added").write_text("by a command\n")
    Path(view, "etc/hostname").unlink()
    with Path(view, "etc/passwd").open("a") as file:
        file.write("tux:x:1001:1001::/:\n")


def without_places(snapshot: tree_snapshot.Snapshot) -> tree_snapshot.Snapshot:
    return {path: replace(entry, links=1) for path, entry in snapshot.items()}


def test_an_unchanged_view_is_the_source(tmp_path):
    """But for what an overlay takes for its own notes: a device 0:0, attributes trusted.overlay.*."""
    root = kitchen_sink.build(tmp_path / "source", replace(kitchen_sink.QUICK, entries=200, owners=50, large=20 << 20))
    os.setxattr(root, "user.of-the-root", b"kept")
    (root / "special/no-numbers").unlink()
    os.removexattr(root / "attributes/values", "trusted.overlay.opaque")
    os.utime(root / "special", (0, 7))
    os.utime(root, (0, 7))
    source = directory(root)
    wanted = taken(source)
    assert tree_snapshot.differences(wanted, taken(make_writable(source, nothing, "a test"))) == []


def test_what_is_changed_in_the_view_is_in_the_tree_and_not_in_the_source(tmp_path):
    root = make_system(tmp_path / "chroot")
    before = tree_snapshot.directory(root)
    found = taken(make_writable(directory(root), add, "a test"))
    assert found[b"etc/added"].size == len("by a command\n")
    assert b"etc/hostname" not in found
    assert found[b"etc/passwd"].size == before[b"etc/passwd"].size + len("tux:x:1001:1001::/:\n")
    assert tree_snapshot.differences(before, tree_snapshot.directory(root)) == []


def test_nothing_of_it_is_seen_outside_and_nothing_stays(tmp_path):
    root = make_system(tmp_path / "chroot")
    namespace = os.readlink("/proc/self/ns/mnt")
    descriptors = len(os.listdir("/proc/self/fd"))
    here = os.getcwd()

    def look(view: str) -> None:
        assert os.readlink("/proc/self/ns/mnt") != namespace
        assert view in Path("/proc/self/mountinfo").read_text()
        assert Path("/proc/1/mountinfo").read_text().count(view) == 0

    taken(make_writable(directory(root), look, "a test"))
    assert "/run/ltsp" not in Path("/proc/self/mountinfo").read_text()
    assert os.readlink("/proc/self/ns/mnt") == namespace
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert os.getcwd() == here
    assert os.listdir("/run/ltsp") == []


def test_an_error_of_a_command_ends_the_visit_too(tmp_path):
    namespace = os.readlink("/proc/self/ns/mnt")

    def fail(_view: str) -> None:
        raise LtspError("no")

    with pytest.raises(LtspError, match="no"):
        taken(make_writable(directory(make_system(tmp_path / "chroot")), fail, "a test"))
    assert os.readlink("/proc/self/ns/mnt") == namespace


@pytest.fixture
def mounted(tmp_path):
    """A chroot with a file system that belongs to it, one that does not, and a file that is bound over another."""
    root = make_system(tmp_path / "chroot")
    disk = tmp_path / "boot.ext4"
    subprocess.run(["mkfs.ext4", "-q", "-N", "64", disk, "4M"], check=True)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    (root / "home/hidden-by-the-mount").touch()
    (root / "etc/resolv.conf").write_text("hidden by the mount\n")
    (tmp_path / "resolv.conf").touch()
    points = [root / "boot", root / "home", root / "etc/resolv.conf"]
    subprocess.run(["mount", "-o", "loop", disk, points[0]], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", points[1]], check=True)
    subprocess.run(["mount", "--bind", tmp_path / "resolv.conf", points[2]], check=True)
    (root / "boot/vmlinuz").write_text("kernel\n")
    (root / "home/private").touch()
    yield root
    for point in points:
        subprocess.run(["umount", point], check=True)


def test_file_systems_mounted_in_the_source_are_writable_or_left_out_as_planned(mounted):
    source = directory(mounted)
    wanted = taken(source)
    assert b"boot/vmlinuz" in wanted
    assert b"home/private" not in wanted
    assert tree_snapshot.differences(wanted, taken(make_writable(source, nothing, "a test"))) == []

    def change(view: str) -> None:
        Path(view, "boot/vmlinuz").write_text("another kernel\n")

    found = taken(make_writable(source, change, "a test"))
    assert found[b"boot/vmlinuz"].size == len("another kernel\n")
    assert (mounted / "boot/vmlinuz").read_text() == "kernel\n"


def test_output_directories_stay_out(tmp_path):
    root = make_system(tmp_path / "chroot")
    (root / "srv/ltsp/images").mkdir(parents=True)
    source = directory(root, excluded_directories=(str(root / "srv/ltsp"), str(tmp_path / "elsewhere")))
    wanted = taken(source)
    assert b"srv/ltsp" not in wanted
    assert tree_snapshot.differences(wanted, taken(make_writable(source, nothing, "a test"))) == []


def test_an_image_is_mounted_by_the_kernel(tmp_path):
    root = make_system(tmp_path / "chroot")
    image = tmp_path / "lab.img"
    subprocess.run(["mksquashfs", root, image, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    source = SquashfsSource("lab", str(image))
    wanted = taken(source)
    found = taken(make_writable(source, nothing, "a test"))
    assert tree_snapshot.differences(without_places(wanted), without_places(found)) == []
    assert b"etc/added" in taken(make_writable(source, add, "a test"))
    assert str(image) not in subprocess.run(["losetup", "-l"], capture_output=True, text=True, check=True).stdout


def test_a_source_of_several_parts_is_refused_before_anything_is_done(tmp_path):
    combined = CombinedSource(directory(tmp_path), (), lambda _path: directory(tmp_path))
    with pytest.raises(SourceError, match=r"ltsp\.conf:3: PRE_IMAGE_a uses LTSP_ROOT, but chroot .* cannot be mounted"):
        make_writable(combined, nothing, "ltsp.conf:3: PRE_IMAGE_a")


def test_a_kernel_without_overlays_is_named(tmp_path, monkeypatch):
    def refuse(*_arguments) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mounts, "mount_overlay", refuse)
    with pytest.raises(SourceError, match=r"cannot mount a writable view of chroot .*: No such device"):
        taken(make_writable(directory(make_system(tmp_path / "chroot")), nothing, "a test"))


def test_a_mount_that_the_view_cannot_have_is_named(tmp_path, monkeypatch):
    root = make_system(tmp_path / "chroot")
    source = make_writable(directory(root), nothing, "a test")
    plan = DirectorySource.plan

    def planned(self):
        found = plan(self)
        return (
            found
            if self.path == "/run/ltsp/root"
            else replace(found, included=(*found.included, replace(found.included[0], path="srv")))
        )

    monkeypatch.setattr(DirectorySource, "plan", planned)
    with pytest.raises(SourceError, match=r"/srv of chroot .* cannot be part of a writable view"):
        taken(source)


def test_a_thread_that_stays_keeps_us_in_the_namespace_and_breaks_nothing():
    """In a process of its own: it cannot come back."""
    script = (
        "import os, threading\nfrom ltsp.host.namespaces import enter_mount_namespace\n"
        "end = threading.Event()\nbefore = os.readlink('/proc/self/ns/mnt')\n"
        "with enter_mount_namespace():\n    thread = threading.Thread(target=end.wait)\n    thread.start()\n"
        "print(os.readlink('/proc/self/ns/mnt') != before)\nend.set()\n"
    )
    path = str(Path(namespaces.__file__).parents[2])
    done = subprocess.run(
        ["python3", "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=True
    )
    assert done.stdout == b"True\n"


def test_a_user_who_may_not_mount_gets_an_error(tmp_path):
    root = make_system(tmp_path / "chroot")
    os.seteuid(65534)
    try:
        with pytest.raises(LtspError, match="cannot create a private mount namespace: Operation not permitted"):
            taken(make_writable(directory(root), nothing, "a test"))
    finally:
        os.seteuid(0)
