"""Clients boot files in `images/` as they are: the disk of a virtual machine, and a live medium."""

from __future__ import annotations

import json
import struct
import subprocess

import pytest

from corpus.diskless import one_at_a_time
from corpus.site import Site

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

_SECTOR = 512
_FIRST = 2048
_MEGABYTES = 1400


def disk(root, path):
    """A disk with one partition, ext4, that contains the root."""
    with path.open("wb") as file:
        file.truncate((_MEGABYTES << 20) + _FIRST * _SECTOR)
        # Status, type and place of the first partition, then what makes it a table. UEFI 2.10, 5.2.1
        sectors = (_MEGABYTES << 20) // _SECTOR
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), _FIRST, sectors))
        file.seek(510)
        file.write(b"\x55\xaa")
    offset = f"offset={_FIRST * _SECTOR}"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-E", offset, path, f"{_MEGABYTES}M"], check=True)


def live_medium(root, path):
    """A squashfs in an ISO 9660, as on Debian's live media."""
    live = path.with_name("medium") / "live"
    live.mkdir(parents=True)
    fast = ["-comp", "zstd", "-Xcompression-level", "1", "-quiet", "-no-progress"]
    subprocess.run(["mksquashfs", root, live / "filesystem.squashfs", *fast], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", path, live.parent], check=True)


@pytest.mark.parametrize("made", [disk, live_medium])
def test_it_boots_without_a_build(tmp_path, debian_root, made):
    site = Site.make(tmp_path)
    (site.base / "images").mkdir()
    direct = site.base / "images/vm.img"
    made(debian_root, direct)
    site.ltsp("kernel", "vm")
    site.ltsp("initrd")
    site.ltsp("ipxe")
    with one_at_a_time():
        done = site.ltsp("boottest", "--json", "--timeout=600", "vm", status=None)
    verdict = json.loads(done.stdout)
    assert verdict["passed"], (verdict["cause"], verdict["tail"])
    assert verdict["menu"]
    assert "ltsp.image=images/vm.img" in verdict["guest"]["cmdline"]
