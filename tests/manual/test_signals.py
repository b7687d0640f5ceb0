"""Signals at any moment of a real build: it ends at once, with the status that says so, and nothing is left of it."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from corpus.error_checks import left_behind
from corpus.site import Site

pytestmark = [pytest.mark.oracle, pytest.mark.root]

SLOW = {
    "own": ("-m", "-comp xz -b 1M"),
    "mksquashfs": ("-m", "-Xbcj x86 -comp xz"),
}
"""By engine: what takes much longer than any test waits, in the largest pieces that there are."""
SECONDS = 2.0
"""From a signal to the end."""
_BUSY = 3.0
"""How many times as long a machine that runs other tests may take."""


@pytest.fixture
def site(tmp_path):
    """Clients boot `lab` already."""
    site = Site.make(tmp_path)
    site.system("lab")
    site.ltsp("image", "lab")
    return site


@contextmanager
def building(site, root, *words):
    """A build of a real root that has begun; whatever happens, it does not outlive the block."""
    with subprocess.Popen(
        site.command("image", "--name=lab", *words, str(root)),
        env=site.environment(),
        cwd=site.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            while not listens(process):
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def listens(process):
    """Whether the program itself deals with SIGHUP by now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << signal.SIGHUP - 1)


def end(process, number):
    """Send the signal; what was printed, and the seconds until the end."""
    began = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return said, time.monotonic() - began


@pytest.mark.parametrize("engine", SLOW)
@pytest.mark.parametrize("times", [2, pytest.param(50, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_signal_ends_a_build_at_once_and_everything_is_as_before(
    site, debian_root, engine, times, chance, record_property
):
    before, longest = site.everything(), 0.0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for _ in range(times):
            with building(site, debian_root, "--ionice=", *SLOW[engine]) as process:
                time.sleep(chance.uniform(0, 4))
                said, seconds = end(process, number)
            assert process.returncode == 128 + number, said
            assert "Traceback" not in said
            assert "Exception" not in said
            assert site.everything() == before
            assert left_behind(site) == []
            longest = max(longest, seconds)
    record_property("R15", f"{3 * times} signals to {engine}, the longest end took {longest:.1f} s, 0 left behind")
    assert longest < SECONDS * _BUSY


@pytest.mark.parametrize("times", [3, pytest.param(100, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_signal_at_any_moment_leaves_the_image_before_or_the_whole_new_one(
    site, debian_root, times, chance, record_property
):
    """Also while it is put on the disk and published."""
    words = ("--ionice=", "-m", "-comp lz4")
    began = time.monotonic()
    site.ltsp("image", "--name=lab", *words, str(debian_root))
    length, finished, longest = time.monotonic() - began, 0, 0.0
    for _ in range(times):
        site.ltsp("image", "lab")
        before = site.everything()
        with building(site, debian_root, *words) as process:
            time.sleep(chance.uniform(0, length))
            said, seconds = end(process, signal.SIGTERM)
        # A shell says 143, too, of one that the signal itself ended: the interpreter, when all else was done.
        assert process.returncode in {0, 128 + signal.SIGTERM, -signal.SIGTERM}, said
        assert "Traceback" not in said
        assert "Exception" not in said
        assert left_behind(site) == []
        if process.returncode:
            # The second kind was ended when clients had been given the new image already, and the old ones be removed.
            published = "published lab" in said or site.image("lab").stat().st_size > 100 << 20
            assert published or site.everything() == before
            longest = max(longest, seconds)
        else:
            finished += 1
    record_property("R15", f"{times} signals, {finished} too late, the longest end took {longest:.1f} s, 0 left behind")
    assert longest < SECONDS * _BUSY


@pytest.mark.parametrize("engine", SLOW)
@pytest.mark.parametrize("times", [2, pytest.param(100, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_build_that_is_killed_leaves_nothing_once_the_next_has_run(
    site, debian_root, engine, times, chance, record_property
):
    """Mount, loop device and mksquashfs die with it; what the next run finds, it removes."""
    before = site.everything()
    for _ in range(times):
        with building(site, debian_root, "--ionice=", *SLOW[engine]) as process:
            time.sleep(chance.uniform(0, 4))
            process.kill()
        for _ in range(20):
            if not left_behind(site):
                break
            time.sleep(0.1)
        assert left_behind(site) == []
        assert site.image("lab").exists()
        site.ltsp("image", "lab")
        assert site.everything() == before
    record_property("R15", f"{times} kills of {engine}, 0 left behind")


def test_the_second_signal_does_not_wait(site, debian_root):
    with building(site, debian_root, "--ionice=", *SLOW["own"]) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        said, _ = end(process, signal.SIGTERM)
    assert process.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert "Traceback" not in said
    assert left_behind(site) == []


def test_a_signal_reaches_a_build_of_lower_priority_and_its_status_comes_back(site, debian_root):
    with building(site, debian_root, *SLOW["own"]) as process:
        time.sleep(1)
        said, _ = end(process, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM, said


def test_what_was_ignored_before_stays_ignored(site):
    """nohup(1) has SIGHUP ignored, and a shell without job control SIGINT for what runs in the background."""
    script = """
        trap "" HUP INT
        "$@" & child=$!
        for i in 1 2 3 4 5 6 7 8; do
            kill -HUP $child; kill -INT $child; sleep 0.1
        done
        wait $child
    """
    words = site.command("image", "--ionice=", *SLOW["own"], "lab")
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env=site.environment(),
        cwd=site.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unchanged lab" in done.stdout or "published lab" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "sleep 70",
        "sleep 70 & wait",
        "trap '' TERM INT HUP; while :; do sleep 7; done",
        "touch $LTSP_ROOT/etc/motd; sleep 70",
        "touch $LTSP_ROOT/etc/motd; cd $LTSP_ROOT; exec 5<etc/passwd; sleep 70 & wait",
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_of_the_administrator_ends_with_the_build(site, command, number):
    """Also one that does not want to, and one that works in the writable view of the source."""
    escaped = command.replace("$", r"\$")
    site.conf.write_text(f'PRE_IMAGE_WAIT="{escaped}"\n')
    before = site.everything()
    with building(site, site.base / "lab", "--ionice=") as process:
        while "running PRE_IMAGE_WAIT" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.5)
        said, seconds = end(process, number)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert seconds < (SECONDS + 2) * _BUSY, "a program has two seconds to end by itself"
    assert left_behind(site) == []
    assert site.everything() == before
