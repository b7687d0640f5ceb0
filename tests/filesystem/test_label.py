from __future__ import annotations

import subprocess

import pytest

from filesystem.mkfs import make_file_system
from ltsp.filesystem.btrfs import volume as btrfs
from ltsp.filesystem.ext import volume as ext
from ltsp.filesystem.iso import volume as iso
from ltsp.filesystem.vfat import volume as vfat
from ltsp.filesystem.xfs import volume as xfs

MIB = 1 << 20
MADE = {
    "ext2": (ext, 8, ("mke2fs", "-q", "-t", "ext2", "-L", "label")),
    "ext3": (ext, 8, ("mke2fs", "-q", "-t", "ext3", "-L", "label")),
    "ext4": (ext, 8, ("mke2fs", "-q", "-t", "ext4", "-L", "label")),
    "xfs": (xfs, 64, ("mkfs.xfs", "-q", "--unsupported", "-L", "label")),
    "btrfs": (btrfs, 128, ("mkfs.btrfs", "-q", "-L", "label")),
    "vfat": (vfat, 16, ("mkfs.vfat", "-n", "LABEL")),
    "vfat without a label": (vfat, 16, ("mkfs.vfat",)),
    "iso9660": (iso, 1, ("xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "A_LABEL", "/usr/share/doc/mtools", "-o")),
}


@pytest.mark.oracle
@pytest.mark.parametrize("made", MADE)
def test_kind_label_and_uuid_are_those_of_blkid(made, blocks, tmp_path):
    """An fstab of a system on several volumes names them so."""
    reader, size, command = MADE[made]
    image = make_file_system(tmp_path / "image", size * MIB, *command)
    call = ["blkid", "-p", "-o", "export", image]
    lines = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
    told = dict(line.split("=", 1) for line in lines)
    found = reader.open(blocks(image))
    assert (found.kind, found.label, found.uuid) == (told["TYPE"], told.get("LABEL", ""), told["UUID"])
