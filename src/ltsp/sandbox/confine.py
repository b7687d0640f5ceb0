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

_ERROR_REPORT_SIZE = 1 << 20
"""Bytes that it may write to report why it ends."""
_MAX_OPEN_FILES = 4096
"""Limit on open descriptors."""


def confine(memory: int, file_size: int = 0) -> None:
    """Permanently limit memory and the size of written files, in bytes, and drop all possible privileges.

    Open files stay open; modules have to be imported before. Must be called with a single thread. Raises OSError if the
    kernel refuses a step that every supported kernel allows.
    """
    _lower_rlimit(resource.RLIMIT_AS, memory)
    _lower_rlimit(resource.RLIMIT_FSIZE, max(file_size, _ERROR_REPORT_SIZE))
    _lower_rlimit(resource.RLIMIT_CORE, 0)
    _lower_rlimit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    network_isolated = _isolate_network()
    if os.geteuid() == 0:
        _become_nobody()
    if not network_isolated:
        _isolate_network(with_user=True)  # not before: in a user namespace the change to nobody would fail
    system_call.drop_capabilities()
    system_call.set_no_new_privs()
    with suppress(OSError):  # Linux before 5.13, or Landlock is disabled
        system_call.restrict_with_landlock()
    system_call.set_parent_death_signal(signal.SIGKILL)  # again: changing the user reset it


def _isolate_network(*, with_user: bool = False) -> bool:
    """Enter an empty network namespace; with a user namespace, most systems require no privilege. Returns success."""
    try:
        system_call.unshare_network_and_ipc_namespaces(with_user=with_user)
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


def _lower_rlimit(kind: int, limit: int) -> None:
    """Set a limit, unless it is already lower."""
    _, hard = resource.getrlimit(kind)
    lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (lowest, lowest))
