"""The active swap files, which hold contents of memory. /proc/swaps, proc_pid_swaps(5)"""

from __future__ import annotations

import re


def list_active() -> tuple[bytes, ...]:
    """Absolute paths of swap files, as named by the kernel; none without /proc."""
    try:
        with open("/proc/swaps", "rb") as file:
            return parse(file.read())
    except OSError:
        return ()


def parse(table: bytes) -> tuple[bytes, ...]:
    """Paths of the rows that are files; white space in them is written as octal escapes."""
    rows = (line.split() for line in table.splitlines()[1:])
    return tuple(_unescape(row[0]) for row in rows if len(row) > 1 and row[1] == b"file")


def _unescape(path: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), path)
