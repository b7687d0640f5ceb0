"""Turns unexpected exceptions into errors of one line: failing disks, lack of memory, internal errors."""

from __future__ import annotations

import errno
import os
import sys

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.tree.name import printable

TRACEBACK_VARIABLE = "LTSP_TRACEBACK"
"""The environment variable that prints the traceback of an internal error."""
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota increased",
    errno.EROFS: "remount it read-write, or choose other directories with ltsp --base-dir and --tftp-dir",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root",
    errno.EIO: "check the kernel log (dmesg) for a failing disk",
}
_LIMIT_REMEDIES = {
    errno.ENFILE: "raise the system limit (sysctl fs.file-max), or stop other programs",
    errno.EMFILE: "raise the limit and try again: ulimit -n 65536, or LimitNOFILE=65536 in a systemd unit",
}
"""Remedies for too many open files, whichever file it was. The text of ENFILE begins with that of EMFILE."""


def to_ltsp_error(error: Exception) -> LtspError:
    """The error to report: an LtspError unchanged, except that a limit that caused it replaces its hint."""
    limit = next((number for number in _LIMIT_REMEDIES if os.strerror(number) in str(error)), None)
    if isinstance(error, LtspError):
        if limit is not None:
            error.hint = _LIMIT_REMEDIES[limit]
        return error
    if os.environ.get(TRACEBACK_VARIABLE):
        import traceback  # noqa: PLC0415 -- rarely needed

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, FileNotFoundError) and error.filename is None and files.is_working_directory_removed():
        return LtspError("the working directory has been removed", "cd to another one, or give absolute paths")
    if isinstance(error, OSError):
        path = error.filename if isinstance(error.filename, str | bytes) else ""
        where = f"{printable(os.fsdecode(path))}: " if path else ""
        reason = error.strerror or str(error) or type(error).__name__
        return LtspError(f"{where}{printable(reason)}", suggest_remedy(error))
    if isinstance(error, ImportError) and limit is not None:  # a library could not be opened
        return LtspError(printable(str(error)), _LIMIT_REMEDIES[limit])
    if isinstance(error, MemoryError):
        return LtspError("out of memory", "stop other programs, or give --threads=1")
    message = printable(str(error))
    return LtspError(
        f"internal error: {type(error).__name__}{f': {message}' if message else ''} ({_describe_origin(error)})",
        f"please report this, with the output of a run with {TRACEBACK_VARIABLE}=1 in the environment",
    )


def suggest_remedy(error: OSError) -> str:
    """What to type or do about a file that cannot be read or written; empty if that depends on the file."""
    return (_REMEDIES | _LIMIT_REMEDIES).get(error.errno or 0, "")


def _describe_origin(error: Exception) -> str:
    import traceback  # noqa: PLC0415 -- rarely needed

    frames = traceback.extract_tb(error.__traceback__)
    return f"{os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else "no traceback"
