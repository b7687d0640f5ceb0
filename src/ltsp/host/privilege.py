"""What this process may do. capabilities(7)"""

from __future__ import annotations

_MAY_MOUNT = 21
"""CAP_SYS_ADMIN."""


def may_mount() -> bool:
    """Whether it may mount in its own user namespace; in a container, the kernel may still refuse devices."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key == "CapEff":
                return bool(int(value, 16) >> _MAY_MOUNT & 1)
    return False
