"""A mount namespace that this thread visits: what is mounted there goes when the visit ends, or with the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ltsp.host import system_call
from ltsp.host.mounts import isolate_mounts


@contextmanager
def enter() -> Iterator[None]:
    """Be in a mount namespace of our own; programs that are started meanwhile are in it too.

    Threads that are started meanwhile have to be gone at the end. Where one is not, we stay until the process ends.
    Raises LtspError without the privilege.
    """
    with ExitStack() as opened:

        def kept(path: str, flags: int = 0) -> int:
            descriptor = os.open(path, flags | os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            return descriptor

        before = kept("/proc/thread-self/ns/mnt")
        root, here = kept("/", os.O_PATH), kept(".", os.O_PATH)
        isolate_mounts()
        try:
            yield
        finally:
            # The call leads to the root of the namespace, which is not ours where we run in a chroot. setns(2)
            entered = False
            with suppress(OSError):
                system_call.enter_mounts(before)
                entered = True
            if entered:
                os.fchdir(root)
                os.chroot(".")
                os.fchdir(here)
