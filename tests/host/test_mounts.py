"""Mounts in a namespace of their own: seen by nobody else, and gone with their process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltsp.errors import LtspError
from ltsp.host import system_call
from ltsp.host.mounts import overlay, private_mounts

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
def test_nobody_else_sees_them_and_they_go_with_their_process(tmp_path):
    shown = run(
        [
            "private_mounts()",
            "tmpfs(place)",
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
def test_an_overlay_is_writable_and_leaves_what_is_below_as_it_was(tmp_path):
    lower, over, work = tmp_path / "a:b,c\\d", tmp_path / "over,lay", tmp_path / "tmp"
    for directory in (lower, over, work, lower / "sub"):
        directory.mkdir()
    (lower / "file").write_text("below")
    (over / "upper").write_text("above")
    shown = run(
        [
            "low, above, place = (argument.encode() for argument in sys.argv[1:])",
            "private_mounts()",
            "tmpfs(place)",
            "for name in (b'/upper', b'/work', b'/target'): os.mkdir(place + name)",
            "overlay([above, low], place + b'/upper', place + b'/work', place + b'/target')",
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

    monkeypatch.setattr(system_call, "unshare_mounts", forbidden)
    with pytest.raises(LtspError, match="cannot make private mounts: Operation not permitted: run as root"):
        private_mounts()


def test_more_layers_than_one_call_takes_are_an_error():
    with pytest.raises(LtspError, match="30 layers"):
        overlay([b"/" + b"x" * 200] * 30, b"/u", b"/w", b"/t")
