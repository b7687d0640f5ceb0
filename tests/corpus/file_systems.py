"""A tree in each file system that Linux is installed on: made by its own tools, filled by the kernel.

What is mounted is mounted in a mount namespace of its own, and gone with the program that did it.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from corpus import format_limits, xfs_prototype
from corpus.format_limits import Loss
from corpus.tree_snapshot import Entry

MIB = 1 << 20
_FILL = """
    set -e
    mount -o "loop${4:+,$4}" "$1" "$2"
    [ ! -d "$2/lost+found" ] || rmdir "$2/lost+found"
    at=$2${5:+/$5}
    eval "$6"
    # What the file system cannot hold is said and left out.
    cp -a --sparse=always "$3/." "$at" 2>/dev/null || true
    eval "$7"
    umount "$2"
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of file system, with the features that one or another distribution gives it."""

    mkfs: tuple[str, ...]
    options: str = ""
    """Of the mount that it is filled through."""
    filling: tuple[str, ...] = ()
    """More words where mkfs fills it itself, with `{tree}` or `{prototype}` and `{image}`."""
    least: int = 32
    """MiB, below which it cannot be."""
    inside: str = ""
    """The directory that the tree is copied to, and that `ltsp image` gets."""
    before: str = ""
    """Of the shell, before the copy; `$at` is where that goes, `$2` the mount point."""
    after: str = ""
    losses: tuple[Loss, ...] = ()
    argument: str = ""
    """What is typed behind the path of the image, if the tree is not what the file system shows."""
    lacks: str = ""
    """Of the reader in user space: why the kernel alone reads it."""
    holes: bool = True
    """Whether it stores no zeros where a file has holes."""
    drivers: str = ""
    """Why some kernels cannot mount it."""


_SHORT_TIMES = format_limits.times(
    "without bigtime, xfs holds seconds in 32 bits with a sign",
    lambda second: min(max(second, -(1 << 31)), (1 << 31) - 1),
)
_OF_XFS = (
    format_limits.entries(
        "xfs has links of at most 1,023 bytes, and 18 bits for a minor number",
        lambda _path, entry: len(entry.target) > 1023 or entry.device[1] >= 1 << 18,
    ),
    format_limits.each(
        "nothing is lost: Linux shows an ACL of xfs to root in its form on the disk, too",
        lambda entry: replace(entry, xattrs=tuple(sorted([*entry.xattrs, *_as_xfs_stores(entry)]))),
    ),
)


def _as_xfs_stores(entry: Entry) -> Iterator[tuple[bytes, bytes]]:
    """Attributes for the ACLs of an entry. fs/xfs/xfs_acl.c"""
    for name, value in entry.xattrs:
        stored = {b"system.posix_acl_access": b"FILE", b"system.posix_acl_default": b"DEFAULT"}.get(name)
        if stored:
            parts = [(tag, identity, bits) for tag, bits, identity in struct.iter_unpack("<HHI", value[4:])]
            packed = b"".join(struct.pack(">IIHxx", *part) for part in parts)
            yield b"trusted.SGI_ACL_" + stored, struct.pack(">I", len(parts)) + packed


_OF_MKE2FS = (
    replace(
        format_limits.paths("mke2fs up to 1.47.0 writes no more than 32 bits of a time", "times"),
        varies=True,
    ),
    replace(format_limits.paths("it makes symbolic links of several names one for each", "links"), varies=True),
    replace(format_limits.paths("it makes a directory for what e2fsck finds", "lost+found"), varies=True),
    replace(format_limits.root("it leaves the root directory as it makes it, up to 1.47.0"), varies=True),
)

_LAST_OF_2155 = 5_869_583_999
_OF_ISO = (
    format_limits.attributes(
        "xorriso writes no attributes where other readers than its own would see them", lambda *_: True
    ),
    replace(
        format_limits.entries(
            "xorriso takes a link of 4,000 bytes for an error",
            lambda _path, entry: len(entry.target) > 1023,
        ),
        refused=True,
    ),
    format_limits.each(
        "it keeps eight bits of a minor number",
        lambda entry: replace(entry, device=(entry.device[0], entry.device[1] & 0xFF)),
    ),
    format_limits.each(
        "xorriso leaves slashes at the end of a link away",
        lambda entry: replace(entry, target=entry.target.rstrip(b"/") or entry.target),
    ),
    Loss(
        "xorriso leaves the sticky bit of the root away",
        lambda whole: whole | {b"": replace(whole[b""], mode=whole[b""].mode & ~0o1000)},
    ),
    format_limits.times("a year is one byte there, from 1900 on", lambda second: min(second, _LAST_OF_2155)),
)
_OF_EROFS = (
    replace(
        format_limits.entries(
            "mkfs.erofs 1.5 ends with an error at names of 255 bytes",
            lambda path, _entry: len(path.rpartition(b"/")[2]) == 255,
        ),
        refused=True,
    ),
)
_EROFS = Shape(
    ("mkfs.erofs", "--quiet"),
    filling=("{image}", "{tree}"),
    losses=_OF_EROFS,
    lacks="there is no reader of erofs in user space",
    holes=False,
    drivers="erofs is a module that may be missing",
)

_EXT4 = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096")
_XFS = ("mkfs.xfs", "-q", "-f", "--unsupported")
_LOG = ("-l", "size=16m")
"""The least log that mkfs.xfs computes without reflink is too small for Linux 6.18."""
_BTRFS = ("mkfs.btrfs", "-q", "-f")
_XFS_4 = Shape(
    (*_XFS, "-m", "crc=0,finobt=0,bigtime=0,reflink=0,inobtcount=0"),
    filling=("-p", "{prototype}", "{image}"),
    least=128,
    losses=xfs_prototype.LOSSES,
    drivers="CONFIG_XFS_SUPPORT_V4 is no more in every one",
    holes=False,
)
DEBIAN_EXT4 = Shape((*_EXT4, "-O", "metadata_csum,64bit,^orphan_file"))
SHAPES: dict[str, Shape] = {
    "ext2": Shape(("mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096")),
    "ext3": Shape(("mke2fs", "-q", "-F", "-t", "ext3", "-b", "4096")),
    "ext4 of Debian": DEBIAN_EXT4,
    "ext4 of Ubuntu, of larger inodes": Shape((*_EXT4, "-I", "512", "-O", "metadata_csum,64bit,metadata_csum_seed")),
    "ext4 of the time before checksums": Shape((*_EXT4, "-O", "^metadata_csum,^64bit")),
    "ext4 with inline_data": Shape((*_EXT4, "-O", "inline_data")),
    "ext4 with bigalloc": Shape((*_EXT4, "-O", "bigalloc", "-C", "16384")),
    "ext4 with large_dir": Shape((*_EXT4, "-O", "large_dir")),
    "ext4 with ea_inode": Shape((*_EXT4, "-O", "ea_inode")),
    "ext4 with encrypt, and nothing encrypted": Shape((*_EXT4, "-O", "encrypt")),
    "ext4 with casefold, and nothing folded": Shape(
        (*_EXT4, "-O", "casefold", "-E", "encoding=utf8"),
        filling=("-d", "{tree}", "{image}"),
        losses=_OF_MKE2FS,
        drivers="CONFIG_UNICODE is not in every one",
    ),
    "ext4 of Debian 13": Shape((*_EXT4, "-O", "metadata_csum,64bit,orphan_file,metadata_csum_seed")),
    "xfs": Shape(_XFS, least=128, losses=_OF_XFS),
    "xfs without bigtime": Shape(
        (*_XFS, *_LOG, "-m", "bigtime=0,inobtcount=0"), least=128, losses=(*_OF_XFS, _SHORT_TIMES)
    ),
    "xfs with rmapbt": Shape((*_XFS, "-m", "rmapbt=1"), least=128, losses=_OF_XFS),
    "xfs without reflink": Shape((*_XFS, *_LOG, "-m", "reflink=0"), least=128, losses=_OF_XFS),
    "xfs of version 4": _XFS_4,
    "xfs of version 4 without types in directories": replace(_XFS_4, mkfs=(*_XFS_4.mkfs, "-n", "ftype=0")),
    "btrfs": Shape(_BTRFS, least=128),
    "btrfs by zlib": Shape(_BTRFS, "compress-force=zlib", least=128),
    "btrfs by lzo": Shape(_BTRFS, "compress-force=lzo", least=128),
    "btrfs by zstd": Shape(_BTRFS, "compress-force=zstd:1", least=128),
    "btrfs, subvolume @": Shape(
        _BTRFS, least=128, inside="@", before='btrfs -q subvolume create "$at"', argument=",subvol=@"
    ),
    "btrfs, found in subvolume root": Shape(_BTRFS, least=128, inside="root", before='btrfs -q subvolume create "$at"'),
    "btrfs, subvolumes in it": Shape(
        _BTRFS,
        least=128,
        before='btrfs -q subvolume create "$at/usr"; btrfs -q subvolume create "$at/var"; mkdir "$at/etc";'
        'btrfs -q subvolume create "$at/etc/nested"',
    ),
    "ISO 9660 with Rock Ridge": Shape(
        ("xorriso", "-as", "mkisofs", "-quiet", "-R", "-D", "--hardlinks"),
        filling=("-o", "{image}", "{tree}"),
        losses=_OF_ISO,
        holes=False,
        drivers="isofs is a module that may be missing",
    ),
    "erofs": _EROFS,
    "erofs by lz4": replace(_EROFS, mkfs=(*_EROFS.mkfs, "-zlz4hc")),
}


def room(tree: Path) -> int:
    """MiB that are enough for what is in a directory."""
    # Not by rglob, which in Python 3.11.2 ends where the target of a link is longer than a path may be.
    stored = sum(
        os.lstat(os.path.join(place, name)).st_blocks * 512
        for place, directories, files in os.walk(tree)
        for name in (*directories, *files)
    )
    return stored // MIB * 3 // 2


def made(shape: Shape, tree: Path, image: Path, megabytes: int = 0) -> Path:
    """An image of a file system with the tree in it; `megabytes` where the least is too small."""
    with image.open("wb") as file:
        file.truncate(max(shape.least, megabytes) * MIB)
    if shape.filling:
        text = xfs_prototype.prototype(tree, image.with_name("prototype")) if "{prototype}" in shape.filling else ""
        words = [each.format(tree=tree, image=image, prototype=text) for each in shape.filling]
        subprocess.run([*shape.mkfs, *words], check=True, capture_output=True)
        return image
    subprocess.run([*shape.mkfs, image], check=True, capture_output=True)
    point = image.with_name(f"{image.name}.point")
    point.mkdir()
    script = [image, point, tree, shape.options, shape.inside, shape.before, shape.after]
    subprocess.run(["unshare", "--mount", "sh", "-c", _FILL, "sh", *script], check=True, capture_output=True)
    point.rmdir()
    return image
