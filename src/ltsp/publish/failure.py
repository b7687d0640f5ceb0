"""What the disk refuses, said in one line with a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError
from ltsp.host.process import Device, User
from ltsp.tree.name import printable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_ELSEWHERE = "choose other places with ltsp --base-dir and --tftp-dir"

_COMMAND_WIDTH = 60
"""Characters of a command line that still fit into a message of one line."""


@contextmanager
def told(doing: str, name: str, place: str = "") -> Iterator[None]:
    """Turn an OSError into an LtspError: `cannot publish lab: No space left on device: /srv/ltsp/images`.

    `place` is where it happened if the error does not tell.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        path = os.fsdecode(error.filename) if error.filename else place
        where = f": {printable(path)}" if path else ""
        raise LtspError(f"cannot {doing} {printable(name)}: {reason}{where}", _remedy(error, name)) from error


def described(user: User) -> str:
    """Who uses or holds something, safe to print: `nbdkit /srv/ltsp/images/lab.img (process 4711)`."""
    if isinstance(user, Device):
        return user.name
    command = printable(user.command)
    if len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return f"{command} (process {user.pid})"


def _remedy(error: OSError, name: str) -> str:
    if error.errno in _FULL:
        return f"free some space there, for example by: ltsp versions {printable(name)} --prune"
    if error.errno in _FORBIDDEN:
        return f"run it as root, or {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"mount it writable, or {_ELSEWHERE}"
    return ""
