"""A temporary mount namespace for this thread: its mounts vanish at the end of the block, or with the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ltsp.host import system_call
from ltsp.host.mounts import isolate_mounts


@contextmanager
def enter() -> Iterator[None]:
    """Enter a private mount namespace; programs started in the block are in it too.

    Threads started in the block have to end before it. If one has not, the thread stays until the process ends.
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
            # The call also changes to the root of the namespace, which differs from ours in a chroot. setns(2)
            entered = False
            with suppress(OSError):
                system_call.enter_mounts(before)
                entered = True
            if entered:
                os.fchdir(root)
                os.chroot(".")
                os.fchdir(here)
