from __future__ import annotations

import subprocess

import pytest

from corpus import tree_snapshot
from filesystem.mkfs import make_file_system
from ltsp.errors import FormatError
from ltsp.filesystem.vfat import volume as vfat

MIB = 1 << 20
SHAPES = {
    "FAT12": (4, ("-F", "12")),
    "FAT16": (32, ("-F", "16")),
    "FAT32": (64, ("-F", "32", "-s", "1")),
    "FAT32 with large sectors": (300, ("-F", "32", "-S", "4096")),
    "as it comes": (100, ()),
}
NAMES = (
    "EFI/BOOT/BOOTX64.EFI",
    "EFI/debian/grubx64.efi",
    "EFI/debian/grub.cfg",
    "EFI/Linux/debian-6.1.0-18-amd64-with-a-long-name.efi",
    "lower",
    "UPPER.TXT",
    "Mixed.Case",
    "ünïcödé \u2603.bin",
    "two.dots.in it",
    "x" * 255,
)


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "source"
    for number, name in enumerate(NAMES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(bytes(range(256)) * (number * 90) + b"end")
    for number in range(300):
        (source / "crowd").mkdir(exist_ok=True)
        (source / "crowd" / f"a longer name of file {number}").write_bytes(b"%d" % number)
    (source / "empty").write_bytes(b"")
    (source / "nothing").mkdir()
    return source


def made(image, source, shape):
    size, options = SHAPES[shape]
    make_file_system(image, size * MIB, "mkfs.vfat", "-n", "ESP", "-i", "1234ABCD", *options)
    environment = {"MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
    call = ["mcopy", "-s", "-p", "-m", "-i", image, *source.iterdir(), "::"]
    subprocess.run(call, check=True, capture_output=True, env=environment)
    return image


@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
def test_what_mtools_put_in_is_in_the_tree(shape, source, blocks, tmp_path):
    image = made(tmp_path / "image", source, shape)
    found = vfat.open(blocks(image))
    assert (found.kind, found.label, found.uuid) == ("vfat", "ESP", "1234-ABCD")
    ours, theirs = tree_snapshot.of_tree(found.tree()), tree_snapshot.directory(source)
    assert ours.keys() == theirs.keys()
    for path, entry in ours.items():
        assert (entry.kind, entry.size, entry.digest) == (theirs[path].kind, theirs[path].size, theirs[path].digest)
        assert (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)
        if entry.kind == "f":
            assert abs(entry.mtime - theirs[path].mtime) <= 2


@pytest.mark.oracle
def test_a_mask_and_a_file_that_is_read_only_show_in_modes(source, blocks, tmp_path):
    image = made(tmp_path / "image", source, "FAT16")
    subprocess.run(["mattrib", "+r", "-i", image, "::lower"], check=True, env={"PATH": "/usr/bin"})
    tree = vfat.open(blocks(image), mask=0o077).tree()
    assert tree.root.metadata.mode == tree.root.entries["EFI"].metadata.mode == 0o700
    assert tree.root.entries["UPPER.TXT"].metadata.mode == 0o700
    assert tree.root.entries["lower"].metadata.mode == 0o500


@pytest.mark.oracle
def test_damage_is_reported(source, blocks, tmp_path):
    image = made(tmp_path / "image", source, "FAT32")
    boot = vfat.open(blocks(image)).boot
    whole = image.read_bytes()
    with image.open("r+b") as file:
        file.seek(boot.fat_offset + 4 * boot.root_cluster)
        file.write(boot.root_cluster.to_bytes(4, "little"))
    with pytest.raises(FormatError, match="does not end"):
        vfat.open(blocks(image)).tree()
    image.write_bytes(whole[: 32 * MIB])
    with pytest.raises(FormatError, match="67108864 bytes long, but the volume only 33554432"):
        vfat.open(blocks(image))
    image.write_bytes(bytes(MIB))
    with pytest.raises(FormatError, match="not a vfat file system"):
        vfat.open(blocks(image))
