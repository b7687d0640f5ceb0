"""Isolation for the servers of a test: a network with only a loopback, and an empty /run.

Ports and sockets of the machine's own servers neither conflict nor are disturbed, and nobody outside can connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.host import mount_namespace, mounts, network_namespace


@contextmanager
def enter_private_network() -> Iterator[None]:
    """Enter the private network; threads that are started in the block must end with it.

    Raises LtspError without the privilege.
    """
    with network_namespace.enter(), mount_namespace.enter():
        mounts.mount_tmpfs(b"/run")
        yield
