"""The package manager's locks: held while the source is read, by a reader that changes nothing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ltsp.errors import LockHeld
from ltsp.host.root import RootDirectory
from ltsp.source.directory.package_lock import hold_package_locks

HOLDER = """
import fcntl, sys
way, path = sys.argv[1:3]
file = open(path, "r+")
(fcntl.lockf if way == "record" else fcntl.flock)(file, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path):
    with RootDirectory.open(os.fsencode(tmp_path)) as root:
        yield root


def lay(tmp_path, *paths):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()


def none_waits(message):
    raise AssertionError(message)


@contextmanager
def other_process(way, path):
    """Another process, `way`, has the lock of the file until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, way, path, "apt-get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()


def can_write(way, path):
    """Whether a package manager could begin now."""
    script = HOLDER.replace("LOCK_EX", "LOCK_EX | fcntl.LOCK_NB")
    run = subprocess.run([sys.executable, "-c", script, way, path], input=b"", capture_output=True, check=False)
    return run.returncode == 0


@pytest.mark.parametrize(
    ("way", "path"),
    [
        ("record", "var/lib/dpkg/lock-frontend"),
        ("record", "var/lib/dpkg/lock"),
        ("record", "var/lib/rpm/.rpm.lock"),
        ("record", "usr/lib/sysimage/rpm/.rpm.lock"),
        ("flock", "lib/apk/db/lock"),
    ],
)
def test_each_package_manager_waits_while_the_source_is_read(tmp_path, root, way, path):
    lay(tmp_path, "var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", path)
    assert can_write(way, tmp_path / path)
    with hold_package_locks(root, 0, none_waits) as notes:
        assert notes == []
        assert not can_write(way, tmp_path / path)
    assert can_write(way, tmp_path / path)


@pytest.mark.parametrize(("way", "path"), [("record", "var/lib/dpkg/lock"), ("flock", "lib/apk/db/lock")])
def test_a_running_package_manager_is_waited_for_and_named(tmp_path, root, way, path):
    lay(tmp_path, path)
    told = []
    with other_process(way, tmp_path / path) as process:
        with pytest.raises(LockHeld) as caught, hold_package_locks(root, 0.3, told.append):
            pass
        name = f"apt-get (process {process.pid}) holds /{path}"
    assert caught.value.message.startswith("the package manager is running in the source: ")
    assert caught.value.message.endswith(name)
    assert caught.value.exit_status == 75
    assert len(told) == 1
    assert told[0].endswith(name)


def test_the_wait_ends_when_the_package_manager_does(tmp_path, root):
    lay(tmp_path, "var/lib/dpkg/lock")
    with (
        other_process("record", tmp_path / "var/lib/dpkg/lock") as process,
        hold_package_locks(root, 30, lambda _message: process.stdin.close()),
    ):
        assert process.wait() == 0


def test_a_missing_lock_file_is_reported_and_not_created(tmp_path, root):
    lay(tmp_path, "var/lib/dpkg/status")
    with hold_package_locks(root, 0, none_waits) as notes:
        assert notes == [
            "cannot lock /var/lib/dpkg/lock-frontend against package managers: no such file or directory",
            "cannot lock /var/lib/dpkg/lock against package managers: no such file or directory",
        ]
    assert os.listdir(tmp_path / "var/lib/dpkg") == ["status"]


def test_without_a_package_manager_there_is_nothing_to_tell(root):
    with hold_package_locks(root, 0, none_waits) as notes:
        assert notes == []


@pytest.mark.root
def test_an_unreadable_lock_file_is_reported(tmp_path, root):
    lay(tmp_path, "var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock")
    for path in (tmp_path / "var/lib/dpkg").iterdir():
        path.chmod(0o600)
    os.chmod(tmp_path, 0o755)
    os.seteuid(65534)
    try:
        with hold_package_locks(root, 0, none_waits) as notes:
            assert len(notes) == 2
            assert all(note.endswith("against package managers: permission denied") for note in notes)
    finally:
        os.seteuid(0)


def test_a_lock_that_leads_out_of_the_source_is_not_taken(tmp_path):
    (tmp_path / "chroot/var/lib/dpkg").mkdir(parents=True)
    outside = tmp_path / "lock"
    outside.touch()
    (tmp_path / "chroot/var/lib/dpkg/lock").symlink_to(outside)
    os.mkfifo(tmp_path / "chroot/var/lib/dpkg/lock-frontend")
    with RootDirectory.open(os.fsencode(tmp_path / "chroot")) as root, hold_package_locks(root, 0, none_waits) as notes:
        assert notes == [
            "cannot lock /var/lib/dpkg/lock-frontend against package managers: not a regular file",
            "cannot lock /var/lib/dpkg/lock against package managers: no such file or directory",
        ]
        assert can_write("record", outside)


def test_where_the_file_itself_is_the_lock_it_is_watched(tmp_path, root):
    lay(tmp_path, "var/lib/pacman/db.lck")
    with (
        pytest.raises(LockHeld, match=r"another process holds /var/lib/pacman/db.lck") as caught,
        hold_package_locks(root, 0, print),
    ):
        pass
    assert caught.value.hint.endswith("if none is running, remove that file")
    with hold_package_locks(root, 30, lambda _message: (tmp_path / "var/lib/pacman/db.lck").unlink()) as notes:
        reason = "the lock is a file that exists while pacman runs, so ltsp can only wait until it is gone"
        assert notes == [f"cannot lock /var/lib/pacman/db.lck against package managers: {reason}"]


def test_a_file_system_without_locks_is_reported(tmp_path, root, monkeypatch):
    lay(tmp_path, "var/lib/rpm/.rpm.lock")

    def no_locks(*_arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    with hold_package_locks(root, 0, none_waits) as notes:
        assert notes == ["cannot lock /var/lib/rpm/.rpm.lock against package managers: no locks available"]
