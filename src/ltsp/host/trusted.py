"""Reads the administrator's files only if no other user could have written them.

Each directory on the path is opened below the previous one and checked through its descriptor, including those behind
symbolic links, so that what is checked is what is read.
"""

from __future__ import annotations

import errno
import grp
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ltsp.errors import ConfError
from ltsp.host import privilege

_TRUSTED_GROUPS = ("root", "sudo", "wheel", "admin")
"""Groups whose members can become root anyway. LTSP's manual has ltsp.conf 0660 root:sudo."""
_MAX_LINKS = 40
_COMPONENT_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Owner:
    """The part of a stat result that determines who may change a file or directory."""

    path: str
    mode: int
    """With the type."""
    uid: int
    gid: int


def find_permission_fault(owners: Iterable[Owner], trusted_uids: frozenset[int], trusted_gids: frozenset[int]) -> str:
    """Why a file must not be trusted, as in `/etc/ltsp is writable by everyone`; empty if it may be.

    `owners` are the file and all directories above it. A directory with the sticky bit may be writable, since users
    cannot remove or rename the files of others there.
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


def read(path: str, max_size: int) -> bytes:
    """The content of the file, at most `max_size` bytes.

    Raises ConfError if users other than root and the current one could have written it, or it is larger; OSError.
    """
    # If the working directory was removed, an absolute path still works.
    raw, owners = _read_bytes(path if path.startswith("/") else os.path.join(os.getcwd(), path), max_size)
    if fault := find_permission_fault(owners, _trusted_uids(), _trusted_gids()):
        raise ConfError(
            f"{path} is not trusted: {fault}",
            "make root its owner, and let only root write to it: chown root PATH; chmod go-w PATH",
        )
    if len(raw) > max_size:
        raise ConfError(f"{path} is too large: the limit is {max_size >> 10} KiB")
    return raw


def _read_bytes(path: str, max_size: int) -> tuple[bytes, list[Owner]]:
    """The content of the file, and the owners of it and all directories on the path."""
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
            child = os.open(name, _COMPONENT_FLAGS, dir_fd=directories[-1])
            directories.append(child)
            names.append(name)
            owner = _stat_owner(child, "/".join(names))
            if stat.S_ISLNK(owner.mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink("", dir_fd=child)
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
            return file.read(max_size + 1), owners
    finally:
        for descriptor in directories:
            os.close(descriptor)


def _stat_owner(descriptor: int, path: str) -> Owner:
    found = os.fstat(descriptor)
    return Owner(path, found.st_mode, found.st_uid, found.st_gid)


def _trusted_uids() -> frozenset[int]:
    """In a container, the user that the server's root is mapped to is trusted too: no one inside is that user."""
    overflow_uid = privilege.find_overflow_uid()
    return frozenset({0, os.geteuid()} if overflow_uid is None else {0, os.geteuid(), overflow_uid})


def _trusted_gids() -> frozenset[int]:
    gids = {0}
    for name in _TRUSTED_GROUPS:
        try:
            gids.add(grp.getgrnam(name).gr_gid)
        except KeyError:  # not every distribution has each
            continue
    return frozenset(gids)
