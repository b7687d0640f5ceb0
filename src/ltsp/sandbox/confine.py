"""What a process gives up before it reads bytes that somebody may have made to harm it.

Root becomes nobody. Whoever is no root, or root of a container only, cannot become another, and so files, network and
other processes are closed to the process itself, as far as the kernel does that for everybody: what is open stays open.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress

from ltsp.host import system_call
from ltsp.host.users import NOBODY

_LAST_WORDS = 1 << 20
"""Bytes that it may say of why it ends."""
_FILES = 4096
"""Descriptors that may be open."""


def confine(memory: int, file_size: int = 0) -> None:
    """For good: no more memory than so many bytes, no file that grows beyond `file_size`, and as few rights as can be.

    What is open already stays so; what is to be imported has to be before. There is one thread. Raises OSError where
    the kernel refuses what every kernel can.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, max(file_size, _LAST_WORDS))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    alone = _leave_network()
    if os.geteuid() == 0:
        _become_nobody()
    if not alone:
        _leave_network(with_user=True)  # in which nobody could not have become nobody
    system_call.drop_capabilities()
    system_call.set_no_new_privs()
    with suppress(OSError):  # Linux before 5.13, or built or started without it
        system_call.restrict_with_landlock()
    system_call.die_with_parent(signal.SIGKILL)  # said again: becoming another took it back


def _leave_network(*, with_user: bool = False) -> bool:
    """Whether this is a network without a way out now; in a user namespace that needs no privilege in most places."""
    try:
        system_call.unshare_network_and_ipc(with_user=with_user)
    except OSError:
        return False
    return True


def _become_nobody() -> None:
    """Does nothing where that is not given: in a container with one user, or without the capabilities."""
    with suppress(OSError):
        os.setgroups([])
    with suppress(OSError):
        os.setresgid(NOBODY, NOBODY, NOBODY)
    with suppress(OSError):
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit(what: int, most: int) -> None:
    """As low as that, or as it is already."""
    _, hard = resource.getrlimit(what)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (lowest, lowest))
