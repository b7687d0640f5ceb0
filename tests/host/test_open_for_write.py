"""Who writes to a file is found by locks and by open files; who only reads is none."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ltsp.host.open_for_write import find_writer
from ltsp.host.process import KernelObject, Process


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk of a machine"
    path.write_bytes(bytes(1 << 20))
    return path


@contextmanager
def running(*words: object, until=""):
    """A program that waits for the end of its input."""
    process = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        if until:
            assert until in process.stdout.readline()
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=30)


def found(disk):
    with disk.open("rb") as file:
        return find_writer(file.fileno())


def found_soon(disk):
    """A program that says nothing has it open in a moment."""
    for _ in range(200):
        if (now := found(disk)) is not None:
            return now
        time.sleep(0.05)
    return None


@pytest.mark.oracle
def test_qemu_that_writes_is_found_by_its_locks(disk):
    with running("qemu-io", "-f", "raw", disk) as process:
        now = found_soon(disk)
        for _ in range(100):
            if now.holds_lock:
                break
            time.sleep(0.05)
            now = found(disk)
        assert now.holds_lock
        assert isinstance(now.user, Process)
        assert now.user.pid == process.pid
        assert now.user.command.startswith("qemu-io")


@pytest.mark.oracle
def test_qemu_that_only_reads_is_not_a_writer(disk):
    with running("qemu-io", "-r", "-f", "raw", disk) as process:
        for _ in range(100):
            if any(os.path.samefile(f"/proc/{process.pid}/fd/{each}", disk) for each in descriptors(process.pid)):
                break
            time.sleep(0.05)
        assert found(disk) is None


def descriptors(pid: int) -> list[str]:
    return [each for each in os.listdir(f"/proc/{pid}/fd") if os.path.exists(f"/proc/{pid}/fd/{each}")]


HOLD = "import sys; {}; print('ready', flush=True); sys.stdin.read()"


def holding(code: str, disk):
    return running(sys.executable, "-c", HOLD.format(code.format(disk=str(disk))), until="ready")


def test_a_process_that_has_it_open_for_writing_is_found(disk):
    with holding("f = open('{disk}', 'r+b')", disk) as process:
        now = found(disk)
        assert now is not None
        assert (now.holds_lock, now.user) == (False, Process.of(process.pid))
    assert found(disk) is None


def test_a_process_that_reads_is_not_a_writer(disk):
    with holding("f = open('{disk}', 'rb')", disk):
        assert found(disk) is None


def test_a_process_with_another_file_of_the_name_is_not_a_writer(disk, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / disk.name
    other.write_bytes(b"")
    with holding("f = open('{disk}', 'r+b')", other):
        assert found(disk) is None


@pytest.mark.parametrize(
    "lock",
    [
        "import fcntl; f = open('{disk}', 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX)",
        "import fcntl; f = open('{disk}', 'rb'); fcntl.flock(f, fcntl.LOCK_EX)",
    ],
)
def test_a_lock_of_another_kind_counts(disk, lock):
    with holding(lock, disk):
        now = found(disk)
        assert now is not None
        assert now.holds_lock


def test_a_shared_lock_is_not_a_writer(disk):
    with holding("import fcntl; f = open('{disk}', 'rb'); fcntl.flock(f, fcntl.LOCK_SH)", disk):
        assert found(disk) is None


def test_our_own_lock_stays(disk):
    with disk.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert find_writer(file.fileno()) is None
        with disk.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.root
@pytest.mark.parametrize("options", [[], ["-r"]])
def test_a_loop_device_that_may_write_is_found(disk, options):
    made = subprocess.run(["losetup", *options, "-f", "--show", disk], check=True, capture_output=True, text=True)
    device = made.stdout.strip()
    try:
        now = found(disk)
        assert (now and now.user) == (None if options else KernelObject(f"loop device {device}"))
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
