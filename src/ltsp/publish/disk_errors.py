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

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
_PERMISSION_ERRNOS = {errno.EACCES, errno.EPERM}
_OTHER_DIRECTORIES_HINT = "choose other directories with ltsp --base-dir and --tftp-dir"

_NEGLIGIBLE_SPACE = 1 << 20
"""Bytes; if more are free, something else is full, such as a quota."""
_MIN_VERSIONS_TO_PRUNE = 2
"""With this many versions, one can be removed; the current one stays."""

_COMMAND_WIDTH = 60
"""Characters of a command line that a message shows."""


@contextmanager
def translate_os_errors(
    action: str, subject: ImagePaths | str, location: str = "", *, outcome: str = ""
) -> Iterator[None]:
    """Turn an OSError into an LtspError: `cannot publish lab: Input/output error: /srv/ltsp/images`.

    `subject` is an image, or the name of something else; `location` is the path to report if the error has none (for an
    image, the directory of images); `outcome` says what the state is now.
    """
    try:
        yield
    except OSError as error:
        where = location or (subject.images if isinstance(subject, ImagePaths) else "")
        reason = "; ".join(filter(None, (_describe_error(error, where), outcome)))
        raise LtspError(
            f"cannot {action} {_display_name(subject)}: {reason}", _suggest_remedy(error, subject, where)
        ) from error


def no_space_error(action: str, paths: ImagePaths, directory: str, outcome: str) -> LtspError:
    """The error for a disk whose remaining space is needed for other things."""
    return LtspError(
        f"cannot {action} {paths.name}: {_describe_shortage(directory)}; {outcome}",
        f"free some space there{suggest_pruning(paths)}",
    )


def unfinished_error(paths: ImagePaths, version: str, error: OSError | LtspError) -> FollowUpFailed:
    """The error for a switch whose pointer has moved, but which could not be finished."""
    reason = error.message if isinstance(error, LtspError) else _describe_error(error, paths.images)
    hint = error.hint if isinstance(error, LtspError) else _suggest_remedy(error, paths, paths.images)
    finish = f"ltsp versions {paths.name} --use={version}"
    return FollowUpFailed(
        f"cannot finish publishing {paths.name}: {reason}; new clients already boot version {version}",
        f"{hint}; then {finish}" if hint else finish,
    )


def check_replaceable(name: str, paths: Iterable[str]) -> None:
    """Raises LtspError, with what to type, if one of these names can be neither replaced nor removed."""
    for path in paths:
        directory = os.path.dirname(path)
        for location, reason in ((path, files.find_obstacle(path)), (directory, files.find_protection(directory))):
            if reason is not None:
                shown = printable(location)
                raise LtspError(
                    f"cannot change {printable(name)}: {shown} is {reason.value}", _REMEDY_BY_OBSTACLE[reason] + shown
                )


_REMEDY_BY_OBSTACLE = {
    files.Obstacle.DIRECTORY: "move away the directory ",
    files.Obstacle.MOUNT_POINT: "umount ",
    files.Obstacle.IMMUTABLE: "chattr -i ",
    files.Obstacle.APPEND_ONLY: "chattr -a ",
}
_ATTRIBUTE_OBSTACLES = {files.Obstacle.IMMUTABLE, files.Obstacle.APPEND_ONLY}


def describe_user(user: FileUser) -> str:
    """The user of a file, safe to print: `nbdkit /srv/ltsp/images/lab.img (process 4711)`."""
    if isinstance(user, KernelObject):
        return user.name
    command = printable(user.command)
    if len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return f"{command} (process {user.pid})"


def suggest_pruning(subject: ImagePaths | str) -> str:
    """How to free space by removing old versions, to be appended to a hint; empty if there are none to remove."""
    if (
        not isinstance(subject, ImagePaths)
        or sum(map(is_version_id, files.list_names(subject.versions))) < _MIN_VERSIONS_TO_PRUNE
    ):
        return ""
    return f", for example with: ltsp versions {subject.name} --prune --keep=1"


def _display_name(subject: ImagePaths | str) -> str:
    return subject.name if isinstance(subject, ImagePaths) else printable(subject)


def _error_path(error: OSError, location: str) -> str:
    return os.fsdecode(error.filename) if error.filename else location


def _describe_error(error: OSError, location: str) -> str:
    path = _error_path(error, location)
    if error.errno == errno.ENOSPC and path and (files.free_bytes(path) < _NEGLIGIBLE_SPACE or _is_out_of_inodes(path)):
        return _describe_shortage(path)
    return (error.strerror or str(error)) + (f": {printable(path)}" if path else "")


def _describe_shortage(path: str) -> str:
    """What a disk is short of. File systems such as ext4 have a fixed number of inodes, one for each file."""
    where, free = printable(files.nearest_existing_directory(path)), files.free_bytes(path)
    if _is_out_of_inodes(path):
        return f"no inodes left in {where} ({free >> 20} MiB are free)"
    return f"not enough space in {where}: {f'{free >> 20} MiB' if free >> 20 else f'{free >> 10} KiB'} left"


def _is_out_of_inodes(path: str) -> bool:
    return files.free_inodes(path) == 0


def _suggest_remedy(error: OSError, subject: ImagePaths | str, location: str) -> str:
    path = _error_path(error, location)
    if error.errno == errno.ENOSPC and path and _is_out_of_inodes(path):
        where = printable(files.nearest_existing_directory(path))
        return f"remove files there (df -i {where} counts inodes){suggest_pruning(subject)}"
    if error.errno in _FULL_ERRNOS:
        return f"free some space there{suggest_pruning(subject)}"
    if error.filename and (obstacle := files.find_obstacle(path)) in _ATTRIBUTE_OBSTACLES:
        return _REMEDY_BY_OBSTACLE[obstacle] + printable(path)
    if error.errno in _PERMISSION_ERRNOS:
        return f"run as root, or {_OTHER_DIRECTORIES_HINT}"
    if error.errno == errno.EROFS:
        return f"remount it read-write, or {_OTHER_DIRECTORIES_HINT}"
    return ""
