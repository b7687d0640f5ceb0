"""R11: what a build does to hostile chroots, told by strace: nothing is opened that lies elsewhere, or that can act."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.hostile_root import CANARY, make_hostile, plant_canaries

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src"
BEGIN = "/the-imports-are-done"

BUILD = f"""
import os, sys
from ltsp.errors import LtspError
from ltsp.inspection import exported_disk
from ltsp.source.directory import directory
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.find import find_source
from ltsp.source.live import live_source
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from ltsp.tree.selection import select_all

def swallow(act):
    try:
        act()
    except (LtspError, OSError):
        pass

def build(chroot):
    source = DirectorySource("lab", chroot, "chroot")
    source.plan()
    with source.lock_package_manager(0, print), source.open(select_all, Faults()) as tree:
        for path, node in tree.walk():
            if isinstance(node, File):
                with node.content.open() as stream:
                    assert {CANARY!r}.encode() not in stream.read(stream.size), path

def forbidden(descriptor):
    raise PermissionError

for chroot in sys.argv[1:]:
    swallow(lambda: build(chroot))
# What is opened below a copy of a mount has no path that strace could show.
directory.clone_mount = forbidden
os.path.exists({BEGIN!r})
for chroot in sys.argv[1:]:
    swallow(lambda: find_source(chroot, os.path.dirname(chroot)))
    swallow(lambda: build(chroot))
"""

_OPENED = re.compile(r"^\d+ +open\w*\((.*)\) = \d+<(.*)>$")
_NUMBERED = re.compile(r'"/proc/self/fd/\d+(?:/[^"]*)?"|"/proc/(?:self/mountinfo|locks)"|"/proc/\d+/(?:cmdline|comm)"')


def escapes(log, chroots):
    """The lines that open what is neither in a chroot nor a table of the kernel, and those that open what can act."""
    after = log.read_text().partition(BEGIN)[2].splitlines()
    for line in after:
        found = _OPENED.match(line)
        if not found:
            continue
        arguments, path = found.groups()
        ours = path.startswith("/proc/") or any(f"{path}/".startswith(f"{chroot}/") for chroot in chroots)
        absolute = '"/' in arguments and not _NUMBERED.search(arguments) and f'"{path}"' not in arguments
        acts = "<char " in line and "O_PATH" not in arguments
        if absolute or acts or not ours:
            yield line


def survive(base, chance, count):
    host = plant_canaries(base / "host")
    chroots = [make_hostile(base / f"chroot{number}", host, chance) for number in range(count)]
    log = base / "log"
    run = subprocess.run(
        [*("strace", "-f", "-y", "-s", "200", "-e", "trace=%file", "-o", log), sys.executable, "-c", BUILD, *chroots],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=False,
        text=True,
        timeout=50 + 5 * count,
    )
    assert run.returncode == 0, run.stderr
    assert log.read_text().count(BEGIN) == 1
    assert sum(str(chroot) in log.read_text() for chroot in chroots) == count
    assert list(escapes(log, chroots)) == []
    assert all(path.read_text() == CANARY for path in host.rglob("*") if path.is_file())


@pytest.mark.root
@pytest.mark.oracle
def test_10_hostile_chroots_open_nothing_outside(tmp_path, chance):
    survive(tmp_path, chance, 10)


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.torture
def test_200_hostile_chroots_open_nothing_outside(tmp_path, chance, record_property):
    survive(tmp_path, chance, 200)
    record_property("R11", "200 hostile chroots under strace, 0 opened outside")
