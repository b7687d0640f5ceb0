"""Real machines that do not come far: each fault is told by its own verdict."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from corpus import diskless
from ltsp.boottest import machine, run
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import Accelerator, DirectBoot, NetworkBoot, VirtualMachine
from ltsp.errors import LtspError

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]


def verdict(boot, seconds=120.0, **options):
    with diskless.one_at_a_time():
        return run.run_boot_test(VirtualMachine(boot, memory=768), run.WatchOptions(seconds, **options))


def test_a_boot_file_that_is_missing(tmp_path):
    seen = verdict(NetworkBoot("missing.ipxe", str(tmp_path)))
    # The end is what iPXE makes of the server's error; it has other words since 2023.
    why = "(No such file or directory|Not found)"
    assert re.match(rf"iPXE could not fetch tftp://10\.0\.2\.2/missing\.ipxe: {why} \(no boot", seen.cause)
    assert seen.stage is BootStage.IPXE


def test_a_script_that_ends_in_the_shell(tmp_path):
    (tmp_path / "shell.ipxe").write_text("#!ipxe\nshell\n")
    reached = []
    picture = tmp_path / "screen.png"
    seen = verdict(
        NetworkBoot("shell.ipxe", str(tmp_path)),
        screenshot=str(picture),
        on_stage=lambda stage, _seconds: reached.append(stage),
    )
    assert seen.cause == "iPXE opened its shell"
    assert seen.tail[-1] == "iPXE>"
    assert reached == [BootStage.POWER, BootStage.FIRMWARE, BootStage.IPXE]
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_kernel_without_a_root(debian_root):
    kernel = max(Path(debian_root, "boot").glob("vmlinuz-*"))
    seen = verdict(DirectBoot(str(kernel), "console=ttyS0 panic=-1"))
    assert seen.cause == "the kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)"
    assert seen.stage is BootStage.KERNEL


@pytest.mark.slow
def test_an_initrd_that_the_kernel_cannot_unpack(debian_root, tmp_path):
    kernel = max(Path(debian_root, "boot").glob("vmlinuz-*"))
    damaged = tmp_path / "initrd.img"
    damaged.write_bytes(gzip.compress(bytes(100_000))[:60])
    seen = verdict(DirectBoot(str(kernel), "console=ttyS0 panic=-1", str(damaged)))
    assert seen.cause.startswith("the kernel could not unpack the initrds: ")


@pytest.mark.slow
def test_the_initrd_of_the_distribution_without_a_root(debian_root):
    kernel = max(Path(debian_root, "boot").glob("vmlinuz-*"))
    initrd = max(Path(debian_root, "boot").glob("initrd.img-*"))
    seen = verdict(DirectBoot(str(kernel), "console=ttyS0 root=LABEL=nowhere rootdelay=3", str(initrd)))
    assert seen.cause == "the distribution's initrd gave up and opened a shell"
    assert seen.stage is BootStage.INITRD


def test_a_machine_that_restarts(tmp_path):
    (tmp_path / "again.ipxe").write_text("#!ipxe\nreboot\n")
    seen = verdict(NetworkBoot("again.ipxe", str(tmp_path)))
    assert seen.cause == "the machine restarted or switched itself off; last stage: iPXE"


def test_arguments_that_qemu_refuses_are_its_own_failure():
    with pytest.raises(LtspError, match="qemu-system-x86_64 failed with exit status 1"):
        verdict(DirectBoot("/nonexistent/kernel", ""))


def test_emulation_runs_instructions_everywhere():
    assert machine.is_accelerator_working(Accelerator.TCG, 20.0)


def test_a_trial_that_hangs_is_ended(tmp_path, monkeypatch):
    """As KVM does in some virtual machines; the false QEMU ignores SIGTERM."""
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\ntrap '' TERM\nsleep 60 & wait; sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not machine.is_accelerator_working(Accelerator.KVM, 0.2)
