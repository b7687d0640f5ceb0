"""`ltsp image` of a live chroot on btrfs: what changes meanwhile is packed as it was, and nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from corpus.btrfs_disk import btrfs_disk, subvolume, subvolumes
from corpus.error_checks import refused
from corpus.site import SOURCE, Site, content, listing
from corpus.system import make_system

pytestmark = [pytest.mark.oracle, pytest.mark.root]

FAST = ("--ionice=", "-m", "-comp lz4")


@pytest.fixture
def site(tmp_path):
    return Site.make(tmp_path)


@pytest.fixture
def disk(tmp_path):
    with btrfs_disk(tmp_path) as point:
        yield point


@pytest.fixture
def chroot(disk):
    return make_system(subvolume(disk / "@") / "srv/lab")


def wait_for(is_so):
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that within a minute")


@contextmanager
def building(site, chroot, *words, name="lab"):
    """A build that has taken its snapshot, and waits in the middle of reading its largest file.

    That is a build that is slow by itself: random data, in the slowest codec that there is.
    """
    line = site.command(
        "image", f"--name={name}", "--ionice=", "--threads=1", "-m", "-comp xz -b 1M", *words, str(chroot)
    )
    with subprocess.Popen(
        line, env=site.environment(), cwd=site.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while "contents" not in process.stdout.readline():
                assert process.poll() is None
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


@pytest.fixture
def slow(chroot):
    """So much that a build takes some seconds more."""
    with (chroot / "opt/much").open("wb") as file:
        for _ in range(48):
            file.write(os.urandom(1 << 20))
    return chroot


def end(process, number):
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return said


def test_what_changes_during_the_build_is_packed_as_it_was(site, slow, disk):
    """The same command on the live directory names the file, and ends with 3 (test_live_source)."""
    (slow / "opt/zz-last").write_text("before\n" * 1000)
    with building(site, slow) as process:
        (slow / "opt/much").write_bytes(b"after")
        (slow / "opt/zz-last").write_text("after\n")
        (slow / "usr/bin/tool").unlink()
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "changed" not in said
    assert "vanished" not in said
    image = site.image("lab")
    assert content(image, "opt/zz-last") == "before\n" * 1000
    assert "usr/bin/tool" in listing(image)
    assert subvolumes(disk) == ["@"]


def test_the_plan_and_the_summary_say_what_is_read(site, chroot):
    subvolume(chroot / "opt/nested")
    said = site.ltsp("image", "--name=lab", *FAST, str(chroot)).stdout
    assert "snapshot  / (btrfs of /dev/loop" in said
    assert "snapshot  /opt/nested (btrfs of /dev/loop" in said
    for words in (("--json",), ("--json", "--dry-run")):
        done = site.ltsp("image", "--quiet", *words, "--name=lab", *FAST, str(chroot)).stdout
        (facts,) = json.loads(done)["images"]
        assert [(each["path"], each["kind"]) for each in facts["snapshots"]] == [("", "btrfs"), ("opt/nested", "btrfs")]
        assert facts["live"] == []
    without = site.ltsp("image", "--name=lab", "--snapshot=none", *FAST, str(chroot)).stdout
    assert "snapshot" not in without
    site.conf.write_text("SNAPSHOT=none\n")
    assert "snapshot" not in site.ltsp("image", "--name=lab", *FAST, str(chroot)).stdout


def test_the_image_is_the_same_with_and_without(site, chroot):
    (subvolume(chroot / "opt/nested") / "file").write_text("nested\n")
    site.ltsp("image", "--name=lab", *FAST, str(chroot))
    said = site.ltsp("image", "--name=lab", "--snapshot=none", *FAST, str(chroot)).stdout
    assert "unchanged lab" in said


@pytest.mark.parametrize("kind", ["lvm", "zfs"])
def test_a_kind_that_is_not_possible_is_refused_before_any_work(site, chroot, kind):
    site.conf.write_text(f'PRE_IMAGE_WORK="touch {site.home}/work"\n')
    says = [f"cannot snapshot {chroot} with {kind}: its file system is btrfs on /dev/loop", "--snapshot=auto"]
    refused(site, "--name=lab", f"--snapshot={kind}", str(chroot), says=says)
    assert not (site.home / "work").exists()


def test_elsewhere_auto_is_silent_and_btrfs_is_refused(site, tmp_path):
    disk, mount_point = tmp_path / "ext4.img", tmp_path / "ext4"
    mount_point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", disk, "32M"], check=True)
    subprocess.run(["mount", "-o", "loop", disk, mount_point], check=True)
    try:
        lab = make_system(mount_point / "lab")
        said = site.ltsp("image", *FAST, str(lab))
        assert "snapshot" not in said.stdout + said.stderr
        says = ["with btrfs: its file system is ext4 on /dev/loop", "--snapshot=auto"]
        done = site.ltsp("image", "--quiet", "--snapshot=btrfs", str(lab), status=1)
        assert all(text in done.stderr for text in says), done.stderr
    finally:
        subprocess.run(["umount", mount_point], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_removes_it_at_once(site, slow, disk, number):
    with building(site, slow) as process:
        assert len(subvolumes(disk)) == 2
        said = end(process, number)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert subvolumes(disk) == ["@"]
    assert os.listdir(disk) == ["@"]


def test_what_a_kill_leaves_the_next_run_removes_and_no_living_ones(site, slow, disk):
    subvolume(disk / "@/kept")
    with building(site, slow, name="living") as living:
        kept = set(subvolumes(disk))
        assert len(kept) == 3
        with building(site, slow) as process:
            end(process, signal.SIGKILL)
        assert len(subvolumes(disk)) == 4
        site.ltsp("image", "--dry-run", "--name=lab", str(slow))
        assert set(subvolumes(disk)) == kept
        said, _ = living.communicate(timeout=300)
    assert living.returncode == 0, said
    assert subvolumes(disk) == ["@", "@/kept"]


def test_packages_may_be_installed_while_it_is_read(site, slow):
    """dpkg takes its lock for writing; it gets it when all is read from snapshots, and not from the live directory."""
    lock = slow / "var/lib/dpkg/lock"
    lock.touch()
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    for kind, status in (("auto", 0), ("none", 1)):
        with building(site, slow, f"--snapshot={kind}") as process:
            done = subprocess.run([sys.executable, "-c", script, lock], check=False, capture_output=True)
            assert done.returncode == status, kind
            end(process, signal.SIGTERM)


ROOT = """
import os, subprocess, sys
from ltsp.host.mounts import isolate_mounts
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all
place, kind = sys.argv[1:]
isolate_mounts()
subprocess.run(["mount", "-t", "proc", "none", f"{place}/proc"], check=True)
subprocess.run(["mount", "--rbind", "/dev", f"{place}/dev"], check=True)
os.chroot(place)
os.chdir("/")
os.makedirs("/srv/ltsp/images", exist_ok=True)
source = find_source("/", "/srv/ltsp", excluded_directories=("/srv/ltsp",), snapshots=kind)
faults = Faults()
with source.open(select_all, faults) as tree:
    with open("/etc/hostname", "w") as file:
        file.write("after")
    print([(each.path, each.kind) for each in source.plan().snapshots], source.plan().is_frozen)
    with tree.get("etc/hostname").content.open() as stream:
        print(stream.read(100).decode().strip())
    print([name for name in ("srv/ltsp", "dev/null", "proc/self") if tree.get(name) is not None], bool(faults))
"""


def test_the_root_of_a_running_system_on_a_subvolume_is_read_from_a_snapshot(disk):
    """As installers have it: `/` is a subvolume that is mounted."""
    root = make_system(subvolume(disk / "@"))
    subvolume(root / "var/lib/nested")
    mounted = disk.parent / "root"
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop,subvol=@", disk.parent / "btrfs.img", mounted], check=True)
    try:
        environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]}
        words = [sys.executable, "-c", ROOT, mounted, "btrfs"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert done.stdout.splitlines() == [
        "[('', 'btrfs'), ('var/lib/nested', 'btrfs')] True",
        "server",
        "[] False",
    ]
    assert subvolumes(disk) == ["@", "@/var/lib/nested"]
    assert Path(root / "etc/hostname").read_text() == "after"


@contextmanager
def started(site, chroot):
    """A build from its first moment on; what it printed is of no matter."""
    line = site.command("image", "--name=lab", *FAST, str(chroot))
    with subprocess.Popen(
        line, env=site.environment(), cwd=site.home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


@pytest.mark.parametrize("times", [6, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_signal_or_kill_at_any_moment_leaves_nothing_that_the_next_run_does_not_remove(
    site, chroot, disk, times, chance, record_property
):
    subvolume(chroot / "opt/nested")
    before = subvolumes(disk)
    began = time.monotonic()
    site.ltsp("image", "--name=lab", *FAST, str(chroot))
    length = time.monotonic() - began
    left = 0
    for turn in range(times):
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)[turn % 3]
        with started(site, chroot) as process:
            time.sleep(chance.uniform(0.1, length))
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert "Exception" not in said
        if number == signal.SIGKILL or process.returncode < 0:  # the interpreter had not begun, or was at its end
            left += subvolumes(disk) != before
            site.ltsp("image", "--dry-run", "--name=lab", str(chroot))
        assert subvolumes(disk) == before, said
        assert os.listdir(disk) == ["@"]
    record_property("R15", f"{times} signals and kills, {left} left a snapshot, 0 after the next run")
