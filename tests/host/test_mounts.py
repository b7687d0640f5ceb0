"""Mounts in a namespace of their own: seen by nobody else, and gone with their process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltsp.errors import LtspError
from ltsp.host import system_call
from ltsp.host.mounts import isolate_mounts, mount_overlay

SOURCE = Path(__file__).parent.parent.parent / "src"


def run(script, *arguments):
    """What a process of its own prints; it may move into a namespace."""
    lines = ["import os, sys", "from ltsp.host.mounts import *", "place = sys.argv[1].encode()", *script]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines), *arguments],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout


@pytest.mark.root
def test_they_are_private_and_end_with_their_process(tmp_path):
    shown = run(
        [
            "isolate_mounts()",
            "mount_tmpfs(place)",
            "open(place + b'/file', 'w').close()",
            "print(os.listdir(sys.argv[1]))",
            "print(len(os.listdir('/proc/%d/root' % os.getppid() + sys.argv[1])))",
        ],
        tmp_path,
    )
    assert shown == "['file']\n0\n"
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.root
def test_what_the_server_unmounts_meanwhile_is_gone_and_its_loop_device_is_free(tmp_path):
    disk, server = tmp_path / "disk.img", tmp_path / "server"
    server.mkdir()
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", disk], check=True)
    visit = (
        "import sys; from ltsp.host.mounts import *; isolate_mounts(); mount_tmpfs(sys.argv[1].encode() + b'/ours');"
        "print('there', flush=True); sys.stdin.read()"
    )
    script = """
        set -e
        mount -t tmpfs tmpfs "$1" && mount --make-shared "$1"
        mkdir "$1/disk" "$1/ours"
        mount -o loop "$2" "$1/disk"
        mkfifo "$1/go" "$1/there"
        "$3" -c "$4" "$1" <"$1/go" >"$1/there" &
        exec 3>"$1/go" 4<"$1/there"
        read -r there <&4
        umount "$1/disk"
        kill -0 $!
        echo "$there, loop devices: $(losetup --noheadings --output NAME --associated "$2")"
        grep -c "$1/ours" /proc/self/mountinfo || true
        exec 3>&-
        wait $!
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", server, disk, sys.executable, visit],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("there, loop devices: \n0\n", 0), done.stderr


@pytest.mark.root
def test_an_overlay_is_writable_and_leaves_what_is_below_as_it_was(tmp_path):
    lower, over, work = tmp_path / "a:b,c\\d", tmp_path / "over,lay", tmp_path / "tmp"
    for directory in (lower, over, work, lower / "sub"):
        directory.mkdir()
    (lower / "file").write_text("below")
    (over / "upper").write_text("above")
    shown = run(
        [
            "low, above, place = (argument.encode() for argument in sys.argv[1:])",
            "isolate_mounts()",
            "mount_tmpfs(place)",
            "for name in (b'/upper', b'/work', b'/target'): os.mkdir(place + name)",
            "mount_overlay([above, low], place + b'/upper', place + b'/work', place + b'/target')",
            "print(sorted(os.listdir(place + b'/target')))",
            "open(place + b'/target/file', 'w').write('changed')",
            "os.rmdir(place + b'/target/sub')",
            "print(open(place + b'/target/file').read())",
        ],
        lower,
        over,
        work,
    )
    assert shown == "[b'file', b'sub', b'upper']\nchanged\n"
    assert (lower / "file").read_text() == "below"
    assert (lower / "sub").is_dir()


def test_without_the_privilege_it_is_an_error_with_a_way_out(monkeypatch):
    def forbidden():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(system_call, "unshare_mount_namespace", forbidden)
    with pytest.raises(
        LtspError, match="cannot create a private mount namespace: Operation not permitted: run as root"
    ):
        isolate_mounts()


def test_more_layers_than_one_call_takes_are_an_error():
    with pytest.raises(LtspError, match="30 layers"):
        mount_overlay([b"/" + b"x" * 200] * 30, b"/u", b"/w", b"/t")
