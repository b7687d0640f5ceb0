"""Errors of the disk as messages of one line with a remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ltsp.errors import FollowUpFailed, LtspError
from ltsp.host import files
from ltsp.host.process import FileUser, KernelObject
from ltsp.publish.paths import ImagePaths
from ltsp.publish.version import is_version_id
from ltsp.tree.name import printable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_ELSEWHERE = "choose other directories with ltsp --base-dir and --tftp-dir"

_NEXT_TO_NOTHING = 1 << 20
"""Bytes; if more are free, something else is full, such as a quota."""
_WITH_OLD_ONES = 2
"""With this many versions, one can be removed; the current one stays."""

_COMMAND_WIDTH = 60
"""Characters of a command line that a message shows."""


@contextmanager
def translate_os_errors(doing: str, what: ImagePaths | str, place: str = "", *, outcome: str = "") -> Iterator[None]:
    """Turn an OSError into an LtspError: `cannot publish lab: Input/output error: /srv/ltsp/images`.

    `what` is an image, or the name of something else; `place` is the path to report if the error has none (for an
    image, the directory of images); `outcome` says what the state is now.
    """
    try:
        yield
    except OSError as error:
        where = place or (what.images if isinstance(what, ImagePaths) else "")
        reason = "; ".join(filter(None, (_reason(error, where), outcome)))
        raise LtspError(f"cannot {doing} {_name(what)}: {reason}", _remedy(error, what, where)) from error


def no_space(doing: str, paths: ImagePaths, directory: str, outcome: str) -> LtspError:
    """The error for a disk whose remaining space is needed for other things."""
    return LtspError(
        f"cannot {doing} {paths.name}: {_left(directory)}; {outcome}", f"free some space there{by_pruning(paths)}"
    )


def unfinished_error(paths: ImagePaths, version: str, error: OSError | LtspError) -> FollowUpFailed:
    """The error for a switch whose pointer has moved, but which could not be finished."""
    reason = error.message if isinstance(error, LtspError) else _reason(error, paths.images)
    hint = error.hint if isinstance(error, LtspError) else _remedy(error, paths, paths.images)
    finish = f"ltsp versions {paths.name} --use={version}"
    return FollowUpFailed(
        f"cannot finish publishing {paths.name}: {reason}; new clients already boot version {version}",
        f"{hint}; then {finish}" if hint else finish,
    )


def check_replaceable(name: str, paths: Iterable[str]) -> None:
    """Raises LtspError, with what to type, if one of these names can be neither replaced nor removed."""
    for path in paths:
        directory = os.path.dirname(path)
        for place, reason in ((path, files.find_obstacle(path)), (directory, files.find_protection(directory))):
            if reason is not None:
                shown = printable(place)
                raise LtspError(f"cannot change {printable(name)}: {shown} is {reason.value}", _UNDO[reason] + shown)


_UNDO = {
    files.Obstacle.DIRECTORY: "move away the directory ",
    files.Obstacle.MOUNT_POINT: "umount ",
    files.Obstacle.IMMUTABLE: "chattr -i ",
    files.Obstacle.APPEND_ONLY: "chattr -a ",
}
_PROTECTED = {files.Obstacle.IMMUTABLE, files.Obstacle.APPEND_ONLY}


def describe_user(user: FileUser) -> str:
    """The user of a file, safe to print: `nbdkit /srv/ltsp/images/lab.img (process 4711)`."""
    if isinstance(user, KernelObject):
        return user.name
    command = printable(user.command)
    if len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return f"{command} (process {user.pid})"


def by_pruning(what: ImagePaths | str) -> str:
    """How to free space by removing old versions, to be appended to a hint; empty if there are none to remove."""
    if not isinstance(what, ImagePaths) or sum(map(is_version_id, files.list_names(what.versions))) < _WITH_OLD_ONES:
        return ""
    return f", for example with: ltsp versions {what.name} --prune --keep=1"


def _name(what: ImagePaths | str) -> str:
    return what.name if isinstance(what, ImagePaths) else printable(what)


def _path(error: OSError, place: str) -> str:
    return os.fsdecode(error.filename) if error.filename else place


def _reason(error: OSError, place: str) -> str:
    path = _path(error, place)
    if error.errno == errno.ENOSPC and path and (files.free_bytes(path) < _NEXT_TO_NOTHING or _no_inodes(path)):
        return _left(path)
    return (error.strerror or str(error)) + (f": {printable(path)}" if path else "")


def _left(path: str) -> str:
    """What a disk is short of. File systems such as ext4 have a fixed number of inodes, one for each file."""
    where, free = printable(files.existing_directory(path)), files.free_bytes(path)
    if _no_inodes(path):
        return f"no inodes left in {where} ({free >> 20} MiB are free)"
    return f"not enough space in {where}: {f'{free >> 20} MiB' if free >> 20 else f'{free >> 10} KiB'} left"


def _no_inodes(path: str) -> bool:
    return files.free_inodes(path) == 0


def _remedy(error: OSError, what: ImagePaths | str, place: str) -> str:
    path = _path(error, place)
    if error.errno == errno.ENOSPC and path and _no_inodes(path):
        where = printable(files.existing_directory(path))
        return f"remove files there (df -i {where} counts inodes){by_pruning(what)}"
    if error.errno in _FULL:
        return f"free some space there{by_pruning(what)}"
    if error.filename and (in_the_way := files.find_obstacle(path)) in _PROTECTED:
        return _UNDO[in_the_way] + printable(path)
    if error.errno in _FORBIDDEN:
        return f"run as root, or {_ELSEWHERE}"
    if error.errno == errno.EROFS:
        return f"remount it read-write, or {_ELSEWHERE}"
    return ""
