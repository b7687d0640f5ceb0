"""Files of the administrator: believed only when nobody else can have written them.

Every directory on the way is opened below the one before it and asked through its descriptor, symbolic links
included, so that what was checked is what is read.
"""

from __future__ import annotations

import errno
import grp
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ltsp.errors import ConfError
from ltsp.host import users

_TRUSTED_GROUPS = ("root", "sudo", "wheel", "admin")
"""Those whose members may become root anyway. LTSP's manual has ltsp.conf 0660 root:sudo."""
_MOST_LINKS = 40
_BELOW = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Owner:
    """What of a stat result tells who may change a file or directory."""

    path: str
    mode: int
    """With the type."""
    uid: int
    gid: int


def permission_fault(owners: Iterable[Owner], trusted_uids: frozenset[int], trusted_gids: frozenset[int]) -> str:
    """Why a file must not be believed, as in `/etc/ltsp is writable by everyone`; empty if it may be.

    `owners` are the file and all directories above it. A directory with the sticky bit may be writable: nobody
    removes or renames there what belongs to somebody else.
    """
    for owner in owners:
        sticky = stat.S_ISDIR(owner.mode) and owner.mode & stat.S_ISVTX
        if owner.uid not in trusted_uids:
            return f"{owner.path} belongs to user {owner.uid}"
        if owner.mode & stat.S_IWOTH and not sticky:
            return f"{owner.path} is writable by everyone"
        if owner.mode & stat.S_IWGRP and owner.gid not in trusted_gids and not sticky:
            return f"{owner.path} is writable by group {owner.gid}"
    return ""


def read(path: str, largest: int) -> bytes:
    """What the file holds, which may be `largest` bytes.

    Raises ConfError when others than root and the user we run as could have written it, and when it is larger; OSError.
    """
    # Where the working directory was removed, a file that an absolute path names is there all the same.
    raw, owners = _read_bytes(path if path.startswith("/") else os.path.join(os.getcwd(), path), largest)
    if fault := permission_fault(owners, _trusted_uids(), _trusted_gids()):
        raise ConfError(
            f"{path} is not trusted: {fault}",
            "it must be root's, and writable by nobody but root and administrators",
        )
    if len(raw) > largest:
        raise ConfError(f"{path} is larger than {largest >> 10} KiB")
    return raw


def _read_bytes(path: str, largest: int) -> tuple[bytes, list[Owner]]:
    """What the file holds, and whom it and all directories on the way belong to."""
    owners: list[Owner] = []
    rest = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    directories = [os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    names = [""]
    links = 0
    try:
        owners.append(_stat_owner(directories[0], "/"))
        while rest:
            name = rest.pop()
            if name == "..":
                if len(directories) > 1:
                    os.close(directories.pop())
                    names.pop()
                continue
            below = os.open(name, _BELOW, dir_fd=directories[-1])
            directories.append(below)
            names.append(name)
            owner = _stat_owner(below, "/".join(names))
            if stat.S_ISLNK(owner.mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink("", dir_fd=below)
                os.close(directories.pop())
                names.pop()
                if target.startswith("/"):
                    while len(directories) > 1:
                        os.close(directories.pop())
                        names.pop()
                rest += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            else:
                owners.append(owner)
        if not stat.S_ISREG(owners[-1].mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(f"/proc/self/fd/{directories[-1]}", "rb") as file:
            return file.read(largest + 1), owners
    finally:
        for descriptor in directories:
            os.close(descriptor)


def _stat_owner(descriptor: int, path: str) -> Owner:
    found = os.fstat(descriptor)
    return Owner(path, found.st_mode, found.st_uid, found.st_gid)


def _trusted_uids() -> frozenset[int]:
    """In a container, whoever stands for the server's root is as good: nobody in it is that user."""
    overflow_uid = users.find_overflow_uid()
    return frozenset({0, os.geteuid()} if overflow_uid is None else {0, os.geteuid(), overflow_uid})


def _trusted_gids() -> frozenset[int]:
    gids = {0}
    for name in _TRUSTED_GROUPS:
        try:
            gids.add(grp.getgrnam(name).gr_gid)
        except KeyError:  # not every distribution has each
            continue
    return frozenset(gids)
