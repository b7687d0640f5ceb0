"""The current user: root of the machine, root of a container, or an ordinary user. user_namespaces(7)"""

from __future__ import annotations

import os

_ALL = 0xFFFFFFFF
"""Number of users in a namespace that maps all of them."""


def is_root() -> bool:
    """Whether we are root, and not just root in a container without other users."""
    return os.geteuid() == 0 and find_overflow_uid() is None


def find_overflow_uid() -> int | None:
    """In a container that maps only some users, the UID shown for all others, including the server's root.

    None if there is no such user, or it is also a user of the container.
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
