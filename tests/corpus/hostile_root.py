"""Chroots with traps: links, pipes and devices that lead out, at paths that a build touches."""

from __future__ import annotations

import os
import random
import socket
import stat
from collections.abc import Callable
from pathlib import Path

CANARY = "canary of the host, in no image\n"

TOUCHED = (
    "boot",
    "boot/config-6.1.0-18-amd64",
    "boot/initrd.img-6.1.0-18-amd64",
    "boot/vmlinuz-6.1.0-18-amd64",
    "etc",
    "etc/fstab",
    "etc/group",
    "etc/hosts",
    "etc/login.defs",
    "etc/machine-id",
    "etc/os-release",
    "etc/passwd",
    "etc/shadow",
    "home",
    "initrd.img",
    "lib/modules",
    "proc",
    "tmp",
    "usr",
    "usr/lib/os-release",
    "var",
    "var/lib/dpkg",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/status",
    "var/lib/pacman/db.lck",
    "var/lib/rpm/.rpm.lock",
    "var/log/syslog",
    "vmlinuz",
)
"""Paths of a system that some step of a build looks at."""

Trap = Callable[[Path, Path, random.Random], None]


def plant_canaries(host: Path) -> Path:
    """A directory next to the chroots that looks like a system; each of its files is a canary."""
    for name in TOUCHED:
        path = host / name
        if any(other.startswith(f"{name}/") for other in TOUCHED) or name in {"home", "proc", "tmp", "lib/modules"}:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CANARY)
    return host


def make_hostile(root: Path, host: Path, chance: random.Random) -> Path:
    """Lay a chroot out in `root`, with a few of the touched paths as usual and the others as traps."""
    root.mkdir()
    for name in TOUCHED:
        path = root / name
        if not is_free_of_traps(path.parent, root):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or path.is_symlink() or chance.random() < 0.3:
            continue
        chance.choice(TRAPS)(path, host / name, chance)
    return root


def is_free_of_traps(directory: Path, root: Path) -> bool:
    """Whether the path to a directory is free of traps, so that nothing is laid out through them."""
    while directory != root:
        if os.path.lexists(directory) and (directory.is_symlink() or not directory.is_dir()):
            return False
        directory = directory.parent
    return True


def _absolute(path: Path, target: Path, _chance: random.Random) -> None:
    path.symlink_to(target)


def _upwards(path: Path, target: Path, chance: random.Random) -> None:
    path.symlink_to("../" * chance.randrange(4, 60) + str(target).lstrip("/"))


def _magic(path: Path, target: Path, chance: random.Random) -> None:
    magic = chance.choice(
        ["/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../../../..", "/proc/thread-self/root"]
    )
    path.symlink_to(magic + str(target))


def _descriptor(path: Path, _target: Path, chance: random.Random) -> None:
    path.symlink_to(f"/proc/self/fd/{chance.randrange(12)}")


def _loop(path: Path, _target: Path, _chance: random.Random) -> None:
    path.symlink_to(path.name)


def _chain(path: Path, target: Path, chance: random.Random) -> None:
    last = target
    for number in range(chance.randrange(1, 60)):
        link = path.with_name(f"{path.name}.{number}")
        link.symlink_to(last)
        last = link.name
    path.symlink_to(last)


def _fifo(path: Path, _target: Path, _chance: random.Random) -> None:
    os.mkfifo(path)


def _device(path: Path, _target: Path, chance: random.Random) -> None:
    # zero never ends, full and console act.
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*chance.choice([(1, 5), (1, 7), (5, 1)])))


def _socket(path: Path, _target: Path, _chance: random.Random) -> None:
    here = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as there:
            # By descriptor: a path of more than 107 bytes is none for a socket.
            there.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def _directory(path: Path, _target: Path, _chance: random.Random) -> None:
    path.mkdir()


def _dangling(path: Path, _target: Path, _chance: random.Random) -> None:
    path.symlink_to("/nowhere/at/all")


TRAPS: tuple[Trap, ...] = (
    *(_absolute, _upwards, _magic, _descriptor, _loop, _chain),
    *(_fifo, _device, _socket, _directory, _dangling),
)
