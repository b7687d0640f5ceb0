"""The program as people start it: from a source to what clients read, several at once, and ended by force."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from corpus import kitchen_sink, tree_snapshot
from corpus.site import Site, content
from ltsp.transform.skeleton import STANDARD_DIRECTORIES

pytestmark = [pytest.mark.oracle, pytest.mark.root]

SLOW = ["image", "--ionice=", "-m", "-comp zstd -Xcompression-level 22 -processors 1", "lab"]
"""A build that does not end before somebody ends it."""
QUICK = ["image", "--ionice=", "-m", "-comp lz4", "lab"]
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]+")


@pytest.fixture
def site(tmp_path):
    made = Site.make(tmp_path)
    made.system("lab")
    yield made
    shutil.rmtree(tmp_path)


def make_slow(site: Site, chance) -> None:
    """Give the chroot as much to compress as takes a minute at the highest level."""
    words = [chance.randbytes(6).hex() for _ in range(2000)]
    with open(site.base / "lab" / "large", "w") as file:
        file.writelines(" ".join(chance.choices(words, k=100_000)) for _ in range(40))


@contextmanager
def running(site: Site, *arguments: str):
    """The program at work; whatever happens, it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "ltsp", *arguments],
        env=site.environment(),
        cwd=site.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def is_free(lock: Path) -> bool:
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def holds_lock(site: Site) -> bool:
    lock = site.base / "images" / ".lab.lock"
    return lock.exists() and not is_free(lock)


def kinds_of_files(site: Site) -> set[str]:
    """What lies below the places for images and for boot files, whatever the versions are called."""
    places = ((site.base / "images", "images"), (site.tftp, "tftp"))
    return {
        VERSION.sub("VERSION", f"{name}/{path.relative_to(place)}")
        for place, name in places
        for path in place.rglob("*")
    }


def mounts_and_loops(site: Site) -> list[str]:
    """Mounts and loop devices that have to do with this site."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in [*mounts, *loops] if str(site.base.parent) in line]


def test_without_exclusions_clients_see_the_whole_kitchen_sink(site, tmp_path):
    """By the kernel and by unsquashfs, from a run as people start it."""
    lab = site.base / "lab"
    kitchen_sink.build(lab / "nasty")
    for place in STANDARD_DIRECTORIES:  # which would be made
        (lab / place).mkdir(parents=True, exist_ok=True)
    (site.conf.parent / "image.excludes").write_text("")
    site.ltsp("image", "--cleanup=0", "-m", "-comp zstd -Xcompression-level 1", "lab")
    expected = tree_snapshot.stated(tree_snapshot.directory(lab))
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(site.image("lab"), tmp_path)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(site.image("lab"), tmp_path)) == []


def test_threads_locale_time_zone_umask_and_hash_seed_leave_no_trace_in_the_image(site, record_property):
    kitchen_sink.build(
        site.base / "lab" / "nasty", kitchen_sink.KitchenSinkSize(entries=200, owners=20, depth=5, large=1 << 20)
    )
    combinations = [
        (threads, locale, zone, umask)
        for (threads, zone), (locale, umask) in itertools.product(
            ((1, "UTC"), (2, "Asia/Kathmandu"), (8, "America/St_Johns")), (("C", 0o022), ("tr_TR.UTF-8", 0o077))
        )
    ]
    images = set()
    for index, (threads, locale, zone, umask) in enumerate(combinations):
        before = os.umask(umask)
        try:
            site.ltsp(
                *("image", "--cleanup=0", "-m", f"-comp gzip -processors {threads}", "lab"),
                LC_ALL=locale,
                TZ=zone,
                PYTHONHASHSEED=str(index),
            )
        finally:
            os.umask(before)
        images.add(site.image("lab").read_bytes())
    record_property("R9", f"{len(combinations)} whole runs, {len(images)} image")
    assert len(images) == 1


@pytest.mark.parametrize("builders", [4, pytest.param(49, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])])
def test_one_builder_works_and_the_others_name_it(site, builders, chance, record_property):
    make_slow(site, chance)
    with running(site, *SLOW) as holder:
        wait_for(lambda: holds_lock(site))
        others = [site.ltsp(*QUICK, status=75) for _ in range(builders)]
        assert holder.poll() is None
    assert all(f"{holder.pid}" in other.stderr for other in others)
    record_property("R14", f"1 builder at work, {builders} named it and left")


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_killed_builder_leaves_only_its_lock_behind(site, kills, chance, record_property):
    """At any moment of a run: the image is the old or the new one, and the next run leaves what a run always does."""
    other = site.base / "lab" / "other"
    site.ltsp(*QUICK)
    began = time.monotonic()
    other.write_text("0")
    site.ltsp(*QUICK)
    length = time.monotonic() - began
    usual = kinds_of_files(site)
    for number in range(1, kills + 1):
        other.write_text(f"{number}")
        with running(site, *QUICK) as process:
            time.sleep(chance.uniform(0, length))
            process.kill()
            process.wait()
        assert is_free(site.base / "images" / ".lab.lock")
        assert mounts_and_loops(site) == []
        assert content(site.image("lab"), "other") in {f"{number - 1}", f"{number}"}
        site.ltsp(*QUICK)
        assert content(site.image("lab"), "other") == f"{number}"
        assert kinds_of_files(site) == usual
    record_property("R14", f"{kills} of {kills} locks freed by a kill")
    record_property("R15", f"{kills} kills, 0 mounts, loop devices or files left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_ends_at_once_and_changes_nothing(site, number, chance):
    site.ltsp(*QUICK)
    make_slow(site, chance)
    before = site.everything()
    with running(site, *SLOW) as process:
        wait_for(lambda: holds_lock(site))
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(number)
        said, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert site.everything() == before
    assert mounts_and_loops(site) == []
