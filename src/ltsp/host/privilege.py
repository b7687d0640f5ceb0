"""The current user and the privileges of this process: root of the machine, root of a container, or an ordinary user.

user_namespaces(7), capabilities(7)
"""

from __future__ import annotations

import os

_CAP_SYS_ADMIN = 21
"""CAP_SYS_ADMIN."""
_CAP_SETGID, _CAP_SETUID = 6, 7
"""CAP_SETGID and CAP_SETUID."""


def can_mount() -> bool:
    """Whether it may mount in its own user namespace; in a container, the kernel may still refuse devices."""
    return _has_capability(_CAP_SYS_ADMIN)


def can_switch_to_user(account_id: int) -> bool:
    """Whether it may switch to that user and group: not in a container without that user.

    user_namespaces(7)
    """
    if not (_has_capability(_CAP_SETUID) and _has_capability(_CAP_SETGID)):
        return False
    with open("/proc/self/setgroups", encoding="ascii") as allowed:
        if allowed.read().strip() != "allow":
            return False
    return _is_mapped(account_id, "uid") and _is_mapped(account_id, "gid")


def _has_capability(capability: int) -> bool:
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key == "CapEff":
                return bool(int(value, 16) >> capability & 1)
    return False


def _is_mapped(account_id: int, kind: str) -> bool:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as ranges:
        return any(
            first <= account_id < first + count for first, _, count in (map(int, line.split()) for line in ranges)
        )


_ALL_USERS = 0xFFFFFFFF
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
    if sum(count for _, _, count in ranges) >= _ALL_USERS:
        return None
    return None if any(first <= overflow < first + count for first, _, count in ranges) else overflow


NOBODY = 65534
"""User and group. systemd, "Users, Groups, UIDs and GIDs", and kernel.overflowuid"""
