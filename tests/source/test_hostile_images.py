"""R11: hostile chroots in disks and archives, told by strace: what links and devices in them lead to is not opened.

Names with slashes, `..`, and directories of several names, which no program writes, are in the tests of
filesystem/tree_reader.py and archive/tree_builder.py; backing files in those of source/disk/disk_files.py.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.hostile_root import CANARY, make_hostile, plant_canaries

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src"

READ = f"""
import sys
from ltsp.source.archive import ArchiveSource
from ltsp.source.disk.disk import disk_source
from ltsp.source.spec import DEFAULT_OPTIONS
from ltsp.source.spec import ImageSpec
from ltsp.source.squashfs import SquashfsSource
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, File, Symlink
from ltsp.tree.selection import select_all

def opened(path):
    if path.endswith(".tar"):
        return ArchiveSource("lab", path)
    if path.endswith(".squashfs"):
        return SquashfsSource("lab", path)
    return disk_source(path, "lab", ImageSpec(path), DEFAULT_OPTIONS, require_system=False)

counts = dict.fromkeys((File, Symlink, Device), 0)
for path in sys.argv[1:]:
    with opened(path).open(select_all, Faults()) as tree:
        assert tree.get("sound") is not None
        for name, node in tree.walk():
            tree.follow(name)
            if type(node) in counts:
                counts[type(node)] += 1
            if isinstance(node, File):
                with node.content.open() as stream:
                    assert {CANARY!r}.encode() not in stream.read(stream.size), name
print(*counts.values())
"""
"""Says how many files, links and devices it met: three of each at the least for each chroot."""

_OPENED = re.compile(r"^\d+ +open\w*\(.*\) = \d+<(.*?)(<(?:char|block) .*>)?>$")
_HARMLESS = ("/dev/null", "/dev/urandom")


def images(chroot: Path) -> list[Path]:
    """The chroot in a disk, a tar and a squashfs."""
    disk, archive, image = (Path(f"{chroot}.{suffix}") for suffix in ("ext4", "tar", "squashfs"))
    calls = (
        ["mke2fs", "-q", "-t", "ext4", "-d", chroot, disk, "4M"],
        ["tar", "--warning=no-file-ignored", "-C", chroot, "-cf", archive, "."],
        ["mksquashfs", chroot, image, "-quiet", "-no-progress"],
    )
    for call in calls:
        subprocess.run(call, check=True, capture_output=True)
    return [disk, archive, image]


def escapes(log: Path, host: Path):
    """The lines that open what a link leads to, or a device."""
    for line in log.read_text().splitlines():
        if found := _OPENED.match(line):
            path, device = found.groups()
            if f"{path}/".startswith(f"{host}/") or (device and path not in _HARMLESS):
                yield line


def survive(base, chance, count):
    host = plant_canaries(base / "host")
    made = []
    for number in range(count):
        chroot = make_hostile(base / f"chroot{number}", host, chance)
        (chroot / "sound").write_text("sound")
        (chroot / "link").symlink_to(host / "etc/passwd")
        os.mknod(chroot / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        made += images(chroot)
    log = base / "log"
    run = subprocess.run(
        [*("strace", "-f", "-y", "-s", "200", "-e", "trace=%file", "-o", log), sys.executable, "-c", READ, *made],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=False,
        text=True,
        timeout=50 + 20 * count,
    )
    assert run.returncode == 0, run.stderr
    assert all(int(met) >= 3 * count for met in run.stdout.split()), run.stdout
    text = log.read_text()
    assert all(str(path) in text for path in made)
    assert list(escapes(log, host)) == []
    assert all(path.read_text() == CANARY for path in host.rglob("*") if path.is_file())


@pytest.mark.root
@pytest.mark.oracle
def test_hostile_chroots_in_images_open_nothing_outside(tmp_path, chance):
    survive(tmp_path, chance, 4)


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.torture
def test_200_hostile_chroots_in_images_open_nothing_outside(tmp_path, chance, record_property):
    survive(tmp_path, chance, 200)
    record_property("R11", "200 hostile chroots as disk, tar and squashfs under strace, 0 opened outside")


def test_what_an_escape_looks_like(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        f'7 openat(AT_FDCWD</x>, "etc/passwd", O_RDONLY) = 3<{tmp_path}/host/etc/passwd>\n'
        '7 openat(AT_FDCWD</x>, "/dev/zero", O_RDONLY) = 3</dev/zero<char 1:5>>\n'
        '7 openat(AT_FDCWD</x>, "/dev/null", O_RDONLY) = 3</dev/null<char 1:3>>\n'
        '7 openat(AT_FDCWD</x>, "disk", O_RDONLY) = 3</x/disk>\n'
    )
    assert len(list(escapes(log, tmp_path / "host"))) == 2
