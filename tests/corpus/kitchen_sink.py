"""A directory with everything that has ever gone wrong between a disk and an image. Needs root.

Each part lays out one kind of trouble below a directory of its own, so that a difference names its kind.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

BLOCK = 128 << 10
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class KitchenSinkSize:
    """How much of it there is."""

    entries: int = 3_000
    """Files in the one large directory."""
    owners: int = 300
    """Different user ids."""
    depth: int = 60
    """Directories in each other."""
    large: int = 4 * GIB + 3 * BLOCK + 1234
    """Bytes of the file that 32 bits cannot count; nearly all of it a hole."""


QUICK = KitchenSinkSize()
WHOLE = KitchenSinkSize(entries=70_000, owners=20_000, depth=200)


def build(root: Path, extent: KitchenSinkSize = QUICK, seed: int = 0) -> Path:
    """Lay the tree out in `root`, which is made, and return `root`."""
    root.mkdir(parents=True)
    chance = random.Random(seed)
    _sizes(root / "sizes", chance)
    _duplicates(root / "duplicates", chance)
    _holes(root / "holes", extent, chance)
    _special(root / "special")
    _modes(root / "modes")
    _attributes(root / "attributes", chance)
    _names(root / "names")
    _symlinks(root / "symlinks")
    _crowd(root / "crowd", extent)
    _owners(root / "owners", extent)
    _deep(root / "deep", extent)
    _hard_links(root)
    _times(root / "times")  # the last: what is laid out later would change the times of directories
    os.chmod(root, 0o1751)
    os.chown(root, 12, 34)
    os.utime(root, (0, 987_654_321))
    return root


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _sizes(at: Path, chance: random.Random) -> None:
    for size in (0, 1, 2, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 17):
        _write(at / f"noise-{size}", chance.randbytes(size))
        _write(at / f"text-{size}", (b"the quick brown fox %d\n" % size * (size // 20 + 1))[:size])


def _duplicates(at: Path, chance: random.Random) -> None:
    small, exact, large = chance.randbytes(700), chance.randbytes(BLOCK), chance.randbytes(5 * BLOCK + 99)
    for name in ("a", "b", "z/c"):
        for kind, data in (("small", small), ("exact", exact), ("large", large)):
            _write(at / f"{name}-{kind}", data)
    _write(at / "same-size-other-end", large[:-1] + bytes([large[-1] ^ 1]))
    _write(at / "same-size-other-start", bytes([large[0] ^ 1]) + large[1:])
    _write(at / "same-tail", chance.randbytes(5 * BLOCK) + large[-99:])


def _holes(at: Path, extent: KitchenSinkSize, chance: random.Random) -> None:
    at.mkdir()
    noise = chance.randbytes(5000)

    def sparse(name: str, size: int, *data: tuple[int, bytes]) -> None:
        with (at / name).open("wb") as file:
            file.truncate(size)
            for offset, piece in data:
                file.seek(offset)
                file.write(piece)

    sparse("nothing-but-a-hole", 7 * BLOCK + 5)
    sparse("hole-of-one-block", BLOCK)
    sparse("hole-below-a-block", 20_000)
    sparse("leading", 4 * BLOCK + len(noise), (4 * BLOCK, noise))
    sparse("middle", 9 * BLOCK, (0, noise), (8 * BLOCK, noise))
    sparse("trailing", 5 * BLOCK + 77, (0, noise))
    sparse("not-on-a-border", 6 * BLOCK, (BLOCK + 9000, noise), (4 * BLOCK - 300, noise))
    sparse("over-4-gib", extent.large, (0, noise), (extent.large // 2, noise), (extent.large - len(noise), noise))
    _write(at / "zeros-that-are-stored", bytes(3 * BLOCK + 11))
    _write(at / "zeros-then-data", bytes(2 * BLOCK) + noise)


def _special(at: Path) -> None:
    at.mkdir()
    for name, kind, major, minor in (
        ("null", stat.S_IFCHR, 1, 3),
        ("disk", stat.S_IFBLK, 8, 17),
        ("large-numbers", stat.S_IFBLK, 259, 0x12345),
        ("largest-numbers", stat.S_IFCHR, 0xFFF, 0xFFFFF),
        ("no-numbers", stat.S_IFCHR, 0, 0),
    ):
        os.mknod(at / name, kind | 0o660, os.makedev(major, minor))
    os.mkfifo(at / "fifo", 0o622)
    here = os.open(at, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/socket")  # the address holds 107 bytes; the path may be longer
    os.close(here)


def _modes(at: Path) -> None:
    at.mkdir()
    for mode in (0o000, 0o400, 0o644, 0o2755, 0o4755, 0o6711, 0o7777):
        os.chmod(_write(at / f"file-{mode:o}", b"mode\n"), mode)
        directory = at / f"directory-{mode:o}"
        directory.mkdir()
        _write(directory / "inside", b"mode\n")
        os.chmod(directory, mode)


def _attributes(at: Path, chance: random.Random) -> None:
    capability = struct.pack("<5I", 0x02000001, 1 << 10 | 1 << 13, 0, 0, 0)
    """cap_net_bind_service and cap_net_raw, effective. capabilities(7)"""
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in ((1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    )
    """user::rw- user:1234:r-- group::r-- mask::r-- other::---. acl(5)"""
    os.setxattr(_write(at / "capability", b"\x7fELF"), "security.capability", capability)
    file = _write(at / "acl", b"acl\n")
    os.setxattr(file, "system.posix_acl_access", acl)
    os.setxattr(file, "user.beside-the-acl", b"kept")
    directory = at / "default-acl"
    directory.mkdir()
    os.setxattr(directory, "system.posix_acl_default", acl)
    many = _write(at / "many", b"many\n")
    for index in range(40):
        os.setxattr(many, f"user.number-{index:02}", chance.randbytes(index))
    values = _write(at / "values", b"values\n")
    os.setxattr(values, "user.empty", b"")
    os.setxattr(values, "user.zeros", bytes(100))
    os.setxattr(values, "user.large", chance.randbytes(2500))
    os.setxattr(values, "trusted.overlay.opaque", b"y")
    os.setxattr(values, b"user.name-that-is-not-utf-8-\xff\xfe", b"\xff")
    shared = chance.randbytes(900)
    for index in range(20):
        os.setxattr(_write(at / "shared" / f"{index}", b"shared\n"), "user.value", shared)
        os.setxattr(at / "shared" / f"{index}", "user.other", b"%d" % (index % 3))
    os.symlink("values", at / "symlink")
    os.setxattr(at / "symlink", "trusted.of-the-link", b"itself", follow_symlinks=False)
    os.mkfifo(at / "fifo")
    os.setxattr(at / "fifo", "trusted.of-the-fifo", b"itself")
    os.mknod(at / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.setxattr(at / "device", "security.custom", b"itself")
    os.setxattr(directory, "user.of-a-directory", b"itself")


def _names(at: Path) -> None:
    at.mkdir()
    names = [
        b"\xff\xfe not utf-8",
        b"\xed\xb3\xbf",  # how a lone surrogate would look in UTF-8
        b"latin-1 caf\xe9",
        "composed é".encode(),
        "decomposed e\u0301".encode(),
        "right to left \u202etxt.exe".encode(),
        "\U0001f427".encode(),
        b"new\nline",
        b"tab\tbell\x07escape\x1b[31m",
        b"\x01",
        b"\x7f",
        b" ",
        b" leading and trailing ",
        b"-rf",
        b"--option=value",
        b"*?[a-z]!(x)",
        b"$(id);`id`&|<>",
        b"quote'\"back\\slash\\012",
        b"...",
        b"..x",
        b"#",
        b"a:b,c=d",
        b"[red]markup[bold]",
        b"n" * 255,
        b"\xc3\xa9" * 127 + b"x",
        b"a",
        b"a.b",
        b"a b",
        b"B",
    ]
    for name in names:
        path = os.fsencode(at) + b"/" + name
        with open(path, "wb") as file:
            file.write(name)
        os.mkdir(os.fsencode(at) + b"/" + name[:250] + b".dir")
        with open(os.fsencode(at) + b"/" + name[:250] + b".dir/" + name, "wb") as file:
            file.write(b"inside " + name)


def _symlinks(at: Path) -> None:
    at.mkdir()
    targets = [
        b"../sizes/text-1",
        b"/etc/passwd",
        b"/",
        b"..",
        b".",
        b"nowhere",
        b"itself",
        b"x/" * 2000 + b"deep",
        b"t" * 4095,
        b"\xff\xfe",
        b"new\nline and \x1b[31m",
        b"//double///slashes/",
    ]
    for index, target in enumerate(targets):
        os.symlink(target, os.fsencode(at / f"link-{index}"))
    os.symlink("itself", at / "itself")


def _crowd(at: Path, extent: KitchenSinkSize) -> None:
    at.mkdir()
    for index in range(extent.entries):
        with open(at / f"entry-{index * 2654435761 % 2**32:010}-{'x' * (index % 50)}", "wb") as file:
            file.write(b"%d\n" % (index // 10))


def _owners(at: Path, extent: KitchenSinkSize) -> None:
    for index, owner in enumerate((1, 999, 1000, 65534, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2)):
        os.chown(_write(at / f"{owner}", b"owner\n"), owner, 2**32 - 2 - index)
    for index in range(extent.owners):
        path = at / "many" / f"{index}"
        _write(path, b"")
        os.chown(path, 100_000 + index, 200_000 + index % 7)


def _deep(at: Path, extent: KitchenSinkSize) -> None:
    at.mkdir()
    here = os.open(at, os.O_RDONLY)
    for level in range(extent.depth):
        os.mkdir("down", 0o755, dir_fd=here)
        below = os.open("down", os.O_RDONLY, dir_fd=here)
        with open(os.open("level", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=below), "wb") as file:
            file.write(b"%d\n" % level)
        os.close(here)
        here = below
    os.close(here)


def _hard_links(root: Path) -> None:
    """Links within a directory, across directories, and across `excluded`, which tests leave out or empty."""
    at = root / "links"
    first = _write(at / "b-first", b"one file, many names\n")
    os.setxattr(first, "user.of-all-names", b"shared")
    os.link(first, at / "a-earlier")
    (at / "z").mkdir()
    os.link(first, at / "z" / "elsewhere")
    _write(root / "excluded" / "only-here", b"left out whole\n")
    os.link(first, root / "excluded" / "a-name-that-is-left-out")
    two = _write(root / "excluded" / "first-name", b"two names, one of them left out\n" * 9000)
    os.link(two, at / "last-name")
    os.mkfifo(at / "fifo")
    os.link(at / "fifo", at / "fifo-again")
    os.mknod(at / "device", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    os.link(at / "device", at / "z" / "device-again")
    os.symlink("b-first", at / "symlink")
    os.link(at / "symlink", at / "z" / "symlink-again", follow_symlinks=False)


TIMES = (-(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33)
"""Seconds since 1970. From the third to the last but two a squashfs image can hold."""


def _times(at: Path) -> None:
    for second in TIMES:
        directory = at / f"directory{second:+}"
        file = _write(directory / "file", b"time\n")
        os.symlink("file", directory / "link")
        os.utime(directory / "link", ns=(0, second * 10**9), follow_symlinks=False)
        os.utime(file, ns=(0, second * 10**9 + 999_999_999))
        os.utime(directory, ns=(0, second * 10**9))
