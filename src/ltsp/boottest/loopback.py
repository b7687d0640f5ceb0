"""A place of our own for the servers of a test: a network with a loopback alone, and an empty /run.

Ports and sockets of the machine's own servers are neither in the way nor disturbed, and nobody outside reaches ours.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError
from ltsp.host import command, mount_namespace, mounts, network_namespace
from ltsp.host.command import Serving

_SECONDS_TO_START = 20.0
_PATIENCE = 0.05
"""Seconds between tries to connect."""


@contextmanager
def private() -> Iterator[None]:
    """Be there; threads that are started meanwhile have to be gone at the end.

    Raises LtspError without the privilege.
    """
    with network_namespace.visited(), mount_namespace.visited():
        mounts.tmpfs(b"/run")
        yield


def answers(server: Serving, port: int) -> None:
    """Wait until the server accepts connections.

    Raises LtspError where it ends before, or does not.
    """
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), _SECONDS_TO_START):
                return
        except ConnectionRefusedError:
            status = server.status(_PATIENCE)
        if status is not None:
            raise command.failure(server.arguments[0], status, server.output())
    name = os.path.basename(server.arguments[0])
    raise LtspError(f"{name} did not begin to serve within {_SECONDS_TO_START:.0f} seconds", "is the machine busy?")
