"""What the disk refuses, said in one line with a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError, Unfinished
from ltsp.host import files
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
        reason = _reason(error, place)
        raise LtspError(f"cannot {doing} {printable(name)}: {reason}", _remedy(error, name)) from error


def unfinished(name: str, version: str, error: OSError | LtspError) -> Unfinished:
    """What holds where the pointer has moved and something that follows from it could not be done."""
    reason = error.message if isinstance(error, LtspError) else _reason(error)
    hint = error.hint if isinstance(error, LtspError) else _remedy(error, name)
    finish = f"ltsp versions {printable(name)} --use={version}"
    return Unfinished(
        f"cannot finish publishing {printable(name)}: {reason}; new clients already boot version {version}",
        f"{hint}; then {finish}" if hint else finish,
    )


def check_replaceable(name: str, paths: Iterable[str]) -> None:
    """Raises LtspError where one of these names cannot be given to another file or removed, with what to type."""
    for path in paths:
        directory = os.path.dirname(path)
        for place, reason in ((path, files.obstacle(path)), (directory, files.protection(directory))):
            if reason is not None:
                shown = printable(place)
                raise LtspError(f"cannot change {printable(name)}: {shown} is {reason.value}", _UNDO[reason] + shown)


_UNDO = {
    files.Obstacle.DIRECTORY: "move this directory away: ",
    files.Obstacle.MOUNT_POINT: "umount ",
    files.Obstacle.IMMUTABLE: "chattr -i ",
    files.Obstacle.APPEND_ONLY: "chattr -a ",
}
_PROTECTED = {files.Obstacle.IMMUTABLE, files.Obstacle.APPEND_ONLY}


def described(user: User) -> str:
    """Who uses or holds something, safe to print: `nbdkit /srv/ltsp/images/lab.img (process 4711)`."""
    if isinstance(user, Device):
        return user.name
    command = printable(user.command)
    if len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return f"{command} (process {user.pid})"


def _reason(error: OSError, place: str = "") -> str:
    path = os.fsdecode(error.filename) if error.filename else place
    return (error.strerror or str(error)) + (f": {printable(path)}" if path else "")


def _remedy(error: OSError, name: str) -> str:
    if error.errno in _FULL:
        return f"free some space there, for example by: ltsp versions {printable(name)} --prune"
    if error.filename and (in_the_way := files.obstacle(os.fsdecode(error.filename))) in _PROTECTED:
        return _UNDO[in_the_way] + printable(os.fsdecode(error.filename))
    if error.errno in _FORBIDDEN:
        return f"run it as root, or {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"mount it writable, or {_ELSEWHERE}"
    return ""
