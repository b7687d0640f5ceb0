"""A directory with what is mounted in it, with and without the privilege to copy mounts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.system import KERNEL, make_system
from ltsp.errors import SourceError
from ltsp.host import mounts
from ltsp.source.directory import directory
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.node import File, Metadata
from ltsp.tree.selection import Inclusion, select_all

SOURCE = Path(__file__).parent.parent.parent / "src"


def source(path, **options):
    return DirectorySource("lab", str(path), f"chroot {path}", **options)


def shown(parts):
    return {part.path: part.reason for part in parts}


def mounts_below(path):
    """Of these only: tests beside this one mount too."""
    return [mount for mount in mounts.read_mounts() if mount.mount_point.startswith(os.fsencode(path))]


@pytest.fixture(params=["copied mounts", "mounts as they are"])
def way(request, monkeypatch):
    if request.param == "mounts as they are":

        def forbidden(*_arguments):
            raise PermissionError(errno.EPERM, "not permitted")

        monkeypatch.setattr(directory, "clone_mount", forbidden)
    return request.param


@pytest.fixture
def mounted(tmp_path):
    """A system whose boot, usr and home are file systems, with a memory file system and bound places in it.

    Below each mount point lies a file that the mount hides, which is in no image.
    """
    root = tmp_path / "chroot"
    root.mkdir()
    points = []
    try:
        for name in ("boot", "usr", "home"):
            (root / name).mkdir(mode=0o711)
            (root / name / "hidden").write_text("below the mount")
            disk = tmp_path / f"{name}.ext4"
            subprocess.run(["truncate", "-s", "8M", disk], check=True)
            subprocess.run(["mkfs.ext4", "-q", disk], check=True)
            subprocess.run(["mount", "-o", "loop", disk, root / name], check=True)
            points.append(root / name)
        make_system(root)
        os.chmod(root / "boot", 0o700)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/file").touch()
        (root / "opt/bound").mkdir()
        for kind, what, where in (
            ("tmpfs", "none", root / "run"),
            ("none", tmp_path / "elsewhere", root / "opt/bound"),
            ("none", tmp_path / "elsewhere/file", root / "etc/hostname"),
        ):
            option = ["--bind"] if kind == "none" else ["-t", kind]
            subprocess.run(["mount", *option, what, where], check=True)
            points.append(where)
        (root / "run/file").touch()
        yield root
    finally:
        for point in reversed(points):
            subprocess.run(["umount", point], check=True)


@pytest.mark.root
def test_the_plan_names_what_is_taken_in_and_what_is_not(mounted):
    plan = source(mounted).plan()
    reason = "part of the system"
    assert shown(plan.included) == {"": "", "boot": reason, "usr": reason}
    left_out = shown(plan.left_out)
    assert left_out.pop("etc/hostname").endswith("/elsewhere/file")
    assert left_out.pop("opt/bound").endswith("/elsewhere")
    assert left_out == {"home": "home directories", "run": "exists only while this machine is running"}
    assert plan.warnings == ()


@pytest.mark.root
def test_the_tree_has_the_system_s_file_systems_in_it_and_no_other(mounted, way):
    faults = Faults()
    with source(mounted).open(select_all, faults) as tree:
        assert tree.get("boot").metadata.mode == 0o700
        kernel = next(name for name in tree.get("boot").entries if name.startswith("vmlinuz"))
        with tree.get("boot").entries[kernel].content.open() as stream:
            assert stream.read(1 << 20) == KERNEL.encode()
        assert tree.get("usr/bin/tool") is not None
        for emptied in ("home", "run", "opt/bound"):
            assert tree.get(emptied).entries == {}
        assert all("hidden" not in path for path, _ in tree.walk())
        if way == "copied mounts":
            assert tree.get("home").metadata.mode == 0o711, "the directory below the mount"
            with tree.get("etc/hostname").content.open() as stream:
                assert stream.read(100) == b"server\n", "the file below the mount"
        else:
            assert tree.get("etc/hostname") is None
    assert not faults


@pytest.mark.root
@pytest.mark.usefixtures("way")
def test_a_mount_below_what_is_left_out_is_left_out_with_it(mounted):
    with source(mounted).open(
        lambda path, _directory: (
            Inclusion.EMPTIED if path == "usr" else Inclusion.NOTHING if path == "boot" else Inclusion.ALL
        ),
        Faults(),
    ) as tree:
        assert tree.get("usr").entries == {}
        assert tree.get("boot") is None


@pytest.mark.root
@pytest.mark.usefixtures("way")
def test_nothing_is_mounted_for_it_and_nothing_stays_open(mounted):
    before = mounts_below(mounted)
    descriptors = len(os.listdir("/proc/self/fd"))
    with source(mounted).open(select_all, Faults()):
        assert mounts_below(mounted) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.root
def test_what_a_server_or_daemon_makes_is_not_even_looked_at(tmp_path):
    """A stand-in for a server that is gone: strace shows no call at all on the mount point."""
    root = make_system(tmp_path / "chroot")
    (root / "opt/remote").mkdir()
    script = (
        "import sys\nfrom dataclasses import replace\nfrom ltsp.host import mounts\n"
        "from ltsp.source.directory import directory\nfrom ltsp.tree.faults import Faults\n"
        "from ltsp.tree.selection import select_all\n"
        "directory.clone_mount = lambda *_: (_ for _ in ()).throw(PermissionError(1, 'no'))\n"
        "read = mounts.read_mounts\n"
        "def table():\n"
        "    found = read()\n"
        "    here = sys.argv[1].encode() + b'/opt/remote'\n"
        "    return [replace(m, kind='nfs4', source=b'server:/') if m.mount_point == here else m for m in found]\n"
        "mounts.read_mounts = table\n"
        "source = directory.DirectorySource('lab', sys.argv[1], 'chroot')\n"
        "with source.open(select_all, Faults()) as tree:\n    print(tree.get('opt/remote').metadata)\n"
    )
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", root / "opt/remote"], check=True)
    try:
        log = tmp_path / "log"
        run = subprocess.run(
            ["strace", "-f", "-y", "-o", log, sys.executable, "-W", "ignore", "-c", script, root],
            env={"PYTHONPATH": str(SOURCE)},
            capture_output=True,
            check=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", root / "opt/remote"], check=True)
    assert run.stdout.strip() == str(Metadata(0o755))
    assert f"{root}/opt>" in log.read_text()
    assert "remote" not in log.read_text()


@pytest.mark.root
def test_a_mount_that_comes_during_the_scan_stays_out(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "clone_mount", lambda _descriptor: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    root = make_system(tmp_path / "chroot")
    (root / "late").mkdir()

    def selection(path, _directory):
        if path == "late":
            subprocess.run(["mount", "-t", "tmpfs", "none", root / "late"], check=True)
            (root / "late/file").touch()
        return Inclusion.ALL

    faults = Faults()
    try:
        with source(root).open(selection, faults) as tree:
            assert tree.get("late/file") is None
    finally:
        subprocess.run(["umount", root / "late"], check=True)
    assert faults.vanished == ["late"]


@pytest.mark.root
def test_without_mount_ids_the_plan_is_the_same(mounted, monkeypatch):
    plan = source(mounted).plan()
    monkeypatch.setattr(directory, "mount_id", lambda _descriptor: None)
    assert source(mounted).plan() == plan
    with source(mounted).open(select_all, Faults()) as tree:
        assert tree.get("usr/bin/tool") is not None


@pytest.mark.root
def test_a_mount_that_was_replaced_a_moment_ago_is_an_error(mounted, monkeypatch):
    true = mounts.read_mounts
    monkeypatch.setattr(
        mounts,
        "read_mounts",
        lambda: [
            replace(mount, id=mount.id + 100_000) if mount.mount_point.endswith(b"/boot") else mount for mount in true()
        ],
    )
    with (
        pytest.raises(SourceError, match="/boot was just mounted or unmounted"),
        source(mounted).open(select_all, Faults()),
    ):
        pass


@pytest.mark.root
def test_a_mount_behind_a_closed_directory_is_unreadable(mounted):
    os.chmod(mounted.parent, 0o711)
    for above in mounted.parents[1:-1]:
        os.chmod(above, above.stat().st_mode | 0o011)
    efi = mounted / "boot/efi"
    efi.mkdir()
    disk = mounted.parent / "efi.ext4"
    subprocess.run(["mkfs.ext4", "-q", disk, "4M"], check=True)
    subprocess.run(["mount", "-o", "loop", disk, efi], check=True)
    try:
        faults = Faults(skip_unreadable=True)
        os.seteuid(65534)
        try:
            with source(mounted).open(
                lambda path, _: Inclusion.ALL if path[:4] in {"boot", "etc"} else Inclusion.NOTHING, faults
            ):
                pass
        finally:
            os.seteuid(0)
    finally:
        subprocess.run(["umount", efi], check=True)
    assert faults.unreadable == [("boot", "Permission denied")]


@pytest.mark.root
def test_a_vital_mount_that_stays_out_is_warned_of(tmp_path):
    root = make_system(tmp_path / "chroot")
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "var"], check=True)
    try:
        assert source(root).plan().warnings == ("/var is left out: exists only while this machine is running",)
    finally:
        subprocess.run(["umount", root / "var"], check=True)


def test_output_directories_are_not_in_the_tree(tmp_path):
    root = make_system(tmp_path / "chroot", {"srv/ltsp/images/x.img": "image", "srv/tftp/file": "x", "srv/own": "x"})
    (tmp_path / "link").symlink_to(root / "srv/tftp")
    outputs = (f"{root}/srv/ltsp", f"{tmp_path}/link", f"{tmp_path}", str(root), f"{root}/srv/missing")
    plan = source(root, excluded_directories=outputs).plan()
    assert shown(plan.left_out) == dict.fromkeys(
        ("srv/ltsp", "srv/missing", "srv/tftp"), "an image does not include itself"
    )
    with source(root, excluded_directories=outputs).open(select_all, Faults()) as tree:
        assert sorted(tree.get("srv").entries) == ["own"]


def test_a_source_that_is_gone_is_an_error(tmp_path):
    gone = source(tmp_path / "none")
    with pytest.raises(SourceError, match=r"cannot open .*/none: No such file"):
        gone.plan()
    with pytest.raises(SourceError), gone.lock_package_manager(0, print):
        pass


@pytest.mark.root
def test_the_running_system_can_be_read_by_anyone():
    """Not all of it, but what is excluded and unreadable does no harm, and no mount of another kind is entered."""
    os.seteuid(65534)
    try:
        faults = Faults(skip_unreadable=True)
        wanted = {"etc", "etc/passwd", "usr", "proc", "sys", "dev"}
        plan = source("/").plan()
        with source("/").open(
            lambda path, _directory: Inclusion.ALL if path in wanted or path.startswith("etc/") else Inclusion.NOTHING,
            faults,
        ) as tree:
            assert isinstance(tree.get("etc/passwd"), File)
            assert tree.get("proc").entries == tree.get("sys").entries == {}
    finally:
        os.seteuid(0)
    assert {"proc", "sys", "dev"} <= {part.path for part in plan.left_out}
