"""Small images with every codec and option, from mksquashfs and our writer, to be damaged."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from ltsp.squashfs.compression import Compression
from ltsp.squashfs.reader import Image
from ltsp.squashfs.writer import WriteOptions, write_squashfs
from ltsp.tree.faults import Faults

SEEDS = {
    "gzip": ["-comp", "gzip"],
    "xz": ["-comp", "xz"],
    "zstd": ["-comp", "zstd", "-Xcompression-level", "1"],
    "lz4": ["-comp", "lz4"],
    "lzma": ["-comp", "lzma"],
    "stored": ["-comp", "gzip", "-noI", "-noD", "-noF", "-noX"],
    "stored-tables": ["-comp", "zstd", "-Xcompression-level", "1", "-noI", "-noX"],
    "small-blocks": ["-comp", "lz4", "-b", "4096", "-noI", "-noX", "-always-use-fragments"],
}

OURS = {
    "gzip": WriteOptions(Compression("gzip")),
    "stored": WriteOptions(Compression("none"), block_size=4096),
}


def make(directory: Path) -> list[Path]:
    """Images of one small tree with every kind of inode, basic and extended."""
    source = _tree(directory / "source")
    images = []
    for name, options in SEEDS.items():
        image = directory / f"{name}.img"
        call = ["mksquashfs", source, image, "-noappend", "-quiet", "-no-progress", "-nopad", *options]
        subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
        images.append(image)
    with images[0].open("rb") as file:
        tree = Image.open(file).tree()
        for name, options in OURS.items():
            image = directory / f"our-{name}.img"
            with image.open("w+b", buffering=0) as output:
                write_squashfs(tree, output, options, Faults())
            images.append(image)
    return images


def _tree(root: Path) -> Path:
    chance = random.Random(0)
    for level in (root, root / "a", root / "a/b", root / "empty"):
        level.mkdir()
    for number in range(300):  # more than one header and one metadata block
        (root / "a" / f"entry-{number:03}-{'x' * (number % 40)}").write_bytes(b"%d" % number)
    (root / "a/b/noise").write_bytes(chance.randbytes(30_000))
    (root / "a/b/text").write_bytes(b"a line of text\n" * 3000)
    with (root / "a/b/sparse").open("wb") as file:
        file.seek(200_000)
        file.write(b"end")
    os.link(root / "a/b/text", root / "link")
    os.symlink("a/b", root / "symlink")
    os.symlink("t" * 3000, root / "long-symlink")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o60600, os.makedev(8, 1))
    os.mknod(root / "other-device", 0o20600, os.makedev(1, 3))
    os.mknod(root / "socket", 0o140600)
    names = ("a", "a/b/text", "a/b/noise", "empty")
    for number, name in enumerate(names):
        os.setxattr(root / name, "user.long", b"v" * 500)  # from the second on, a reference
        os.setxattr(root / name, "user.own", b"%d" % number)
    for name in ("symlink", "fifo", "device", "other-device", "socket"):
        os.setxattr(root / name, "trusted.a", b"b", follow_symlinks=False)
    return root
