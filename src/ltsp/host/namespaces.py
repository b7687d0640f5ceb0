"""Temporary namespaces for this thread: what was mounted in one vanishes at the end of the block, or with the process.

The network namespace has a loopback interface and nothing else: every port is free, and nobody else hears.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ltsp.errors import LtspError
from ltsp.host import system_call
from ltsp.host.mounts import isolate_mounts


@contextmanager
def enter_mount_namespace() -> Iterator[None]:
    """Enter a private mount namespace; programs started in the block are in it too.

    Threads started in the block have to end before it. If one has not, the thread stays until the process ends.
    Raises LtspError without the privilege.
    """
    with ExitStack() as stack:

        def open_descriptor(path: str, flags: int = 0) -> int:
            descriptor = os.open(path, flags | os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return descriptor

        previous_namespace = open_descriptor("/proc/thread-self/ns/mnt")
        root, working_directory = open_descriptor("/", os.O_PATH), open_descriptor(".", os.O_PATH)
        isolate_mounts()
        try:
            yield
        finally:
            # The call also changes to the root of the namespace, which differs from ours in a chroot. setns(2)
            entered = False
            with suppress(OSError):
                system_call.enter_mount_namespace(previous_namespace)
                entered = True
            if entered:
                os.fchdir(root)
                os.chroot(".")
                os.fchdir(working_directory)


_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ_FLAGS = struct.Struct("=16sh 14x")
"""struct ifreq with ifr_flags. netdevice(7)"""


@contextmanager
def enter_network_namespace() -> Iterator[None]:
    """Enter a private network namespace; programs started and sockets created in the block are in it too.

    Raises LtspError without the privilege.
    """
    previous_namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            system_call.unshare_network_namespace()
        except OSError as error:
            raise LtspError(f"cannot create a private network namespace: {error.strerror}", "run as root") from error
        try:
            _bring_up_loopback()
            yield
        finally:
            system_call.enter_network_namespace(previous_namespace)
    finally:
        os.close(previous_namespace)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ_FLAGS.pack(b"lo", _IFF_UP))
