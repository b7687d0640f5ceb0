"""Who we are: root of the whole machine, of a container, or nobody special. user_namespaces(7)"""

from __future__ import annotations

import os

_ALL = 0xFFFFFFFF
"""As many users as a namespace that lacks none maps."""


def is_root() -> bool:
    """Whether we are root, and not only called so in a container that lacks other users."""
    return os.geteuid() == 0 and find_overflow_uid() is None


def find_overflow_uid() -> int | None:
    """In a container that maps only some users, the one that stands for all others: the server's root among them.

    None where there is no such user, or somebody in the container is that one.
    """
    try:
        with open("/proc/self/uid_map", "rb") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            overflow = int(file.read())
    except (OSError, ValueError):  # no /proc
        return None
    if sum(count for _, _, count in ranges) >= _ALL:
        return None
    return None if any(first <= overflow < first + count for first, _, count in ranges) else overflow


NOBODY = 65534
"""User and group. systemd, "Users, Groups, UIDs and GIDs", and kernel.overflowuid"""
