"""What nobody foresaw, in the one line that all else gets: a disk that fails, memory that ends, a fault of ours."""

from __future__ import annotations

import errno
import os
import sys

from ltsp.errors import LtspError
from ltsp.tree.name import printable

TRACEBACK = "LTSP_TRACEBACK"
"""Set in the environment, it shows where an error that nobody foresaw was raised."""
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EROFS: "mount it for writing, or choose other places with ltsp --base-dir and --tftp-dir",
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.EMFILE: "raise the limit with ulimit -n",
    errno.EIO: "look into the kernel's log for a disk that fails",
}


def told(error: Exception) -> LtspError:
    """The error for people; one that is for people already is itself."""
    if isinstance(error, LtspError):
        return error
    if os.environ.get(TRACEBACK):
        import traceback  # noqa: PLC0415 -- seldom needed

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, OSError):
        named = error.filename if isinstance(error.filename, str | bytes) else ""
        where = f"{printable(os.fsdecode(named))}: " if named else ""
        reason = error.strerror or str(error) or type(error).__name__
        return LtspError(f"{where}{printable(reason)}", _REMEDIES.get(error.errno or 0, ""))
    if isinstance(error, MemoryError):
        return LtspError("out of memory", "end other programs, or give --threads=1")
    said = printable(str(error))
    return LtspError(
        f"a fault of this program, {type(error).__name__}{f': {said}' if said else ''}, {_place(error)}",
        f"please report it with what {TRACEBACK}=1 in the environment shows",
    )


def _place(error: Exception) -> str:
    import traceback  # noqa: PLC0415 -- likewise

    frames = traceback.extract_tb(error.__traceback__)
    return f"in {os.path.basename(frames[-1].filename)} line {frames[-1].lineno}" if frames else "nowhere"
