"""A place of our own for the servers of a test: a network with a loopback alone, and an empty /run.

Ports and sockets of the machine's own servers are neither in the way nor disturbed, and nobody outside reaches ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.host import mount_namespace, mounts, network_namespace


@contextmanager
def enter_private_network() -> Iterator[None]:
    """Be there; threads that are started meanwhile have to be gone at the end.

    Raises LtspError without the privilege.
    """
    with network_namespace.enter(), mount_namespace.enter():
        mounts.tmpfs(b"/run")
        yield
