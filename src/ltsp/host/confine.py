"""What a process gives up before it reads bytes that somebody may have made to harm it. prctl(2), setrlimit(2)"""

from __future__ import annotations

import os
import resource

from ltsp.host import system_call

_NOBODY = 65534
"""User and group. systemd, "Users, Groups, UIDs and GIDs", and kernel.overflowuid"""
_LAST_WORDS = 1 << 20
"""Bytes that it may say of why it ends."""
_FILES = 4096
"""Descriptors that may be open."""


def confine(memory: int, file_size: int = 0) -> None:
    """For good: no more memory than so many bytes, no file that grows beyond `file_size`, and the rights of nobody.

    What is open already stays so; what is to be imported has to be before. Raises OSError where the kernel refuses.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, max(file_size, _LAST_WORDS))
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)  # takes the capabilities away, too: capabilities(7)
    system_call.never_gain_rights()


def _limit(what: int, most: int) -> None:
    """As low as that, or as it is already."""
    _, hard = resource.getrlimit(what)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (lowest, lowest))
