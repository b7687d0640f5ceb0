from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from ltsp.boottest import guest_report
from ltsp.boottest.console import Console
from ltsp.boottest.verdict import GuestReport
from ltsp.tree.node import File

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def script():
    node = guest_report.build_report_tree().get(f"{guest_report.LAYER_DIRECTORY}/files/etc/ltsp/boottest")
    assert isinstance(node, File)
    with node.content.open() as stream:
        return stream.read(node.content.size).decode()


def test_the_initrd_holds_one_layer_for_every_client():
    files = [path for path, node in guest_report.build_report_tree().walk() if isinstance(node, File)]
    assert files == [
        "ltsp/site/section/9999/enable",
        "ltsp/site/section/9999/files/etc/ltsp/boottest",
        "ltsp/site/section/9999/files/etc/systemd/system/ltsp-boottest.service",
        "ltsp/site/section/9999/match",
    ]
    assert guest_report.build_report_initrd() == guest_report.build_report_initrd()
    assert guest_report.build_report_initrd().startswith(b"070701")
    assert len(guest_report.build_report_initrd()) % 4 == 0, "the boot test loads others behind it"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_reporter_writes_what_the_verdict_reads(shell, tmp_path):
    """On a system with odd names, whose programs print what is in the table."""
    console = tmp_path / "console"
    programs = {
        "systemctl": r"""case $1 in
            is-system-running) echo degraded ;;
            --failed) printf '%s\n' 'dev-disk-by\x2dlabel-a.mount loaded failed failed A "title"' ;;
            esac""",
        "findmnt": "case $3 in SOURCE) echo ltsp ;; FSTYPE) echo overlay ;; esac",
        "kill": ":",
        "sleep": ":",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "facts").write_text('IMAGE=lab\nROOT=http://10.0.2.2/"a"\\b\n')
    (tmp_path / "cmdline").write_text('a="b c" d\\e\n')
    (tmp_path / "net" / "eth0" / "statistics").mkdir(parents=True)
    (tmp_path / "net" / "lo").mkdir()
    (tmp_path / "net" / "eth0" / "statistics" / "rx_bytes").write_text("12345\n")
    text = script()
    for path, replaced in {
        "/dev/console": str(console),
        "/run/ltsp/facts": str(tmp_path / "facts"),
        "/proc/cmdline": str(tmp_path / "cmdline"),
        "/sys/class/net": str(tmp_path / "net"),
        "/proc/sys/kernel/printk": "/dev/null",
        "kill -s": str(tmp_path / "kill") + " -s",
    }.items():
        assert path in text
        text = text.replace(path, replaced)
    subprocess.run(
        [shell, "-c", text], check=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, timeout=20
    )
    seen = Console()
    seen.feed(console.read_bytes(), 1.0)
    assert seen.report is not None
    told = GuestReport.parse(seen.report)
    assert (told.source, told.fstype, told.state) == ("ltsp", "overlay", "degraded")
    assert told.root == 'http://10.0.2.2/"a"\\b'
    assert told.failed == (r"dev-disk-by\x2dlabel-a.mount",)
    assert told.cmdline == 'a="b c" d\\e'
    assert told.received == {"eth0": 12345}
    assert told.available > 0


def test_shellcheck_finds_nothing_in_the_reporter(tmp_path):
    path = tmp_path / "boottest"
    path.write_text(script())
    subprocess.run(["shellcheck", "--shell=sh", path], check=True)
