"""Drops the privileges of a process before it reads data that may be hostile.

Root becomes nobody. Other users, and root in a container, cannot change to another user, so the process also denies
itself files, network and other processes, as far as the kernel permits this to all users. Open files stay open.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress

from ltsp.host import system_call
from ltsp.host.privilege import NOBODY

_LAST_WORDS = 1 << 20
"""Bytes that it may write to report why it ends."""
_FILES = 4096
"""Limit on open descriptors."""


def confine(memory: int, file_size: int = 0) -> None:
    """Permanently limit memory and the size of written files, in bytes, and drop all possible privileges.

    Open files stay open; modules have to be imported before. Must be called with a single thread. Raises OSError if the
    kernel refuses a step that every supported kernel allows.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, max(file_size, _LAST_WORDS))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    alone = _leave_network()
    if os.geteuid() == 0:
        _become_nobody()
    if not alone:
        _leave_network(with_user=True)  # not before: in a user namespace the change to nobody would fail
    system_call.drop_capabilities()
    system_call.set_no_new_privs()
    with suppress(OSError):  # Linux before 5.13, or Landlock is disabled
        system_call.restrict_with_landlock()
    system_call.die_with_parent(signal.SIGKILL)  # again: changing the user reset it


def _leave_network(*, with_user: bool = False) -> bool:
    """Enter an empty network namespace; with a user namespace, most systems require no privilege. Returns success."""
    try:
        system_call.unshare_network_and_ipc(with_user=with_user)
    except OSError:
        return False
    return True


def _become_nobody() -> None:
    """Does nothing if not permitted: in a container with one user, or without the capabilities."""
    with suppress(OSError):
        os.setgroups([])
    with suppress(OSError):
        os.setresgid(NOBODY, NOBODY, NOBODY)
    with suppress(OSError):
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit(what: int, most: int) -> None:
    """Set a limit, unless it is already lower."""
    _, hard = resource.getrlimit(what)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (lowest, lowest))
