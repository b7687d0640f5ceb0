"""A network that this thread visits: a loopback interface and nothing else, so every port is free and nobody hears."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError
from ltsp.host import system_call

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ_FLAGS = struct.Struct("=16sh 14x")
"""struct ifreq with ifr_flags. netdevice(7)"""


@contextmanager
def enter() -> Iterator[None]:
    """Enter a private network namespace; programs started and sockets created in the block are in it too.

    Raises LtspError without the privilege.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            system_call.unshare_network()
        except OSError as error:
            raise LtspError(f"cannot create a private network namespace: {error.strerror}", "run as root") from error
        try:
            _raise_loopback()
            yield
        finally:
            system_call.enter_network(before)
    finally:
        os.close(before)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", _IFF_UP))
