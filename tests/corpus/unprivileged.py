"""Commands run without privileges: by an ordinary user, or by root of a container that such a user starts.

The tests and their Python may lie where only root can look, as in root's home. In a mount namespace of the command,
what it needs is bound into directories that everybody can pass.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corpus.site import SOURCE

USER = 1000
"""User and group; nobody needs to be known by it."""


@dataclass(frozen=True)
class _Way:
    """Directories that are needed below one that not everybody can pass."""

    closed: Path
    needed: Path


def as_user(*needed: Path) -> tuple[str, ...]:
    """What a command is started by to be an ordinary user's, with only these directories besides the Python."""
    return (*_opened(needed), *_user())


def in_container(*needed: Path, bare: bool = False) -> tuple[str, ...]:
    """The same as root of a user namespace that maps no other; `bare`: of what is in /dev nothing, in /proc oneself."""
    return (*_opened(needed, bare=bare), *_user(), "unshare", "--user", "--map-root-user", "--mount", "--")


def given(path: Path) -> Path:
    """The path, which is the user's now, and all below it."""
    for each in (path, *path.rglob("*")):
        os.chown(each, USER, USER, follow_symlinks=False)
    return path


def _user() -> tuple[str, ...]:
    return ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--")


def _opened(needed: tuple[Path, ...], *, bare: bool = False) -> tuple[str, ...]:
    ways = list(_ways([Path(sys.base_prefix), Path(sys.prefix), SOURCE, SOURCE.parent / "tests", *needed]))
    lines = ["mount -t tmpfs tmpfs /mnt"]
    for number, way in enumerate(ways):
        lines += [f"mkdir /mnt/{number}", f"mount --bind '{way.needed}' /mnt/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs '{closed}'" for closed in sorted({way.closed for way in ways})]
    for number, way in enumerate(ways):
        lines += [f"mkdir -p '{way.needed}'", f"mount --bind /mnt/{number} '{way.needed}'"]
    lines.append("umount --lazy /mnt")
    if bare:
        lines += ["mount -t proc -o hidepid=2 proc /proc", "mount -t tmpfs -o mode=755 tmpfs /dev"]
    script = "umask 022\n" + "\n".join(lines) + '\ncd "$PWD"\nexec "$@"'
    return ("unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh")


def _ways(needed: list[Path]) -> Iterator[_Way]:
    for path in sorted({each.resolve() for each in needed}):
        above = [each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH]
        if above:
            yield _Way(above[0], path)
