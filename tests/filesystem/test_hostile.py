"""R10: whatever a volume holds, reading it ends soon, in little memory, and with our error if not with a tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from corpus import mutant_runs
from filesystem import mutants
from filesystem.mkfs import filled, make_file_system
from squashfs.seeds import _tree

MIB = 1 << 20
SEEDS = {
    "ext4": ("ext", 4, ("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,inline_data,ea_inode"), ""),
    "ext4-checked": ("ext", 6, ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "metadata_csum"), ""),
    "ext2": ("ext", 3, ("mke2fs", "-q", "-t", "ext2", "-b", "1024"), ""),
    "xfs": ("xfs", 64, ("mkfs.xfs", "-q", "--unsupported"), ""),
    "btrfs": ("btrfs", 64, ("mkfs.btrfs", "-q", "--mixed"), "compress-force=lzo"),
    "btrfs-two-copies": ("btrfs", 128, ("mkfs.btrfs", "-q", "-n", "4096"), "compress-force=zstd"),
}

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Small file systems of every kind, of one tree, and one whose journal is to be replayed."""
    directory = tmp_path_factory.mktemp("seeds")
    source = _tree(directory / "source")
    found = []
    for name, (kind, size, command, options) in SEEDS.items():
        image = make_file_system(directory / name, size * MIB, *command)
        filled(image, source, options)
        found.append(f"{kind}:{image}")
    image = make_file_system(
        directory / "ext4-journal", 6 * MIB, "mke2fs", "-q", "-t", "ext4", "-J", "size=1", "-b", "1024"
    )
    (source / "crowd").mkdir()
    filled(image, source, then="pull-the-plug")
    found.append(f"ext:{image}.cut")
    (source / "long-symlink").unlink()  # xorriso does not take it
    image = directory / "iso"
    call = ["xorriso", "-as", "mkisofs", "-quiet", "-R", "--hardlinks", "-o", image, source]
    subprocess.run(call, check=True, capture_output=True)
    found.append(f"iso:{image}")
    plain = directory / "plain"
    shutil.copytree(source / "a", plain)
    for bits, size in (("12", 2), ("16", 20), ("32", 40)):
        image = make_file_system(directory / f"fat{bits}", size * MIB, "mkfs.vfat", "-F", bits, "-s", "1")
        subprocess.run(["mcopy", "-s", "-i", image, plain, "::"], check=True, capture_output=True)
        found.append(f"vfat:{image}")
    return found


def survive(images: list[str], seed: int, count: int, scratch: Path) -> dict[str, int]:
    """Fates of so many mutants: one process believes all checksums, the other checks them."""
    return mutant_runs.survive(mutants.__file__, images, seed, count, scratch, lambda run: [str(run)])


def test_1500_mutants_are_read_or_refused(images, chance, tmp_path):
    fates = survive(images, chance.randrange(2**32), 1500, tmp_path)
    assert sum(fates.values()) == 1500
    for kind in mutants.READERS:
        assert fates[f"{kind} refused"] > 5
        assert fates[f"{kind} read"] > 5


@pytest.mark.torture
@pytest.mark.parametrize("kind", mutants.READERS)
def test_100000_mutants_are_read_or_refused(kind, images, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    fates = survive(
        [image for image in images if image.startswith(f"{kind}:")], chance.randrange(2**32), count, tmp_path
    )
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of file systems ({kind}): {fates}")
