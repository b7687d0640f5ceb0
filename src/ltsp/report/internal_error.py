"""What nobody foresaw, in the one line that all else gets: a disk that fails, memory that ends, a fault of ours."""

from __future__ import annotations

import errno
import os
import sys

from ltsp.errors import LtspError
from ltsp.host import working_directory
from ltsp.tree.name import printable

TRACEBACK_VARIABLE = "LTSP_TRACEBACK"
"""Set in the environment, it shows where an error that nobody foresaw was raised."""
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EROFS: "mount it for writing, or choose other places with ltsp --base-dir and --tftp-dir",
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.EIO: "look into the kernel's log for a disk that fails",
}
_LIMITS = {
    errno.ENFILE: "raise the limit of this machine: sysctl fs.file-max, or end other programs",
    errno.EMFILE: "raise the limit and run it again: ulimit -n 65536, or LimitNOFILE=65536 in a unit of systemd",
}
"""What to do about it, whoever met it: no file is at fault that could not be opened for this. The text of the first
begins with that of the second.
"""


def to_ltsp_error(error: Exception) -> LtspError:
    """The error for people; one that is for people already is itself, but for what it met first."""
    limit = next((number for number in _LIMITS if os.strerror(number) in str(error)), None)
    if isinstance(error, LtspError):
        if limit is not None:
            error.hint = _LIMITS[limit]
        return error
    if os.environ.get(TRACEBACK_VARIABLE):
        import traceback  # noqa: PLC0415 -- seldom needed

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, FileNotFoundError) and error.filename is None and working_directory.is_removed():
        return LtspError("the working directory has been removed", "cd to another one, or give absolute paths")
    if isinstance(error, OSError):
        named = error.filename if isinstance(error.filename, str | bytes) else ""
        where = f"{printable(os.fsdecode(named))}: " if named else ""
        reason = error.strerror or str(error) or type(error).__name__
        return LtspError(f"{where}{printable(reason)}", (_REMEDIES | _LIMITS).get(error.errno or 0, ""))
    if isinstance(error, ImportError) and limit is not None:  # of a library that could not be opened
        return LtspError(printable(str(error)), _LIMITS[limit])
    if isinstance(error, MemoryError):
        return LtspError("out of memory", "end other programs, or give --threads=1")
    said = printable(str(error))
    return LtspError(
        f"a fault of this program, {type(error).__name__}{f': {said}' if said else ''}, {_raised_at(error)}",
        f"please report it with what {TRACEBACK_VARIABLE}=1 in the environment shows",
    )


def _raised_at(error: Exception) -> str:
    import traceback  # noqa: PLC0415 -- likewise

    frames = traceback.extract_tb(error.__traceback__)
    return f"in {os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else "nowhere"
