"""Names for snapshots that have no directory of their own, and locks that tell those in use from forgotten ones.

The lock is a file of that name below /run, which is empty after a start of the machine, as are the locks after a kill.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ltsp.host import locks

LOCKS = "/run/ltsp/snapshots"
_NAME = re.compile(r"ltsp-[0-9a-f]{16}")


@contextmanager
def reserve_name() -> Iterator[str]:
    """A new name that is ours until the block ends."""
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    name = f"ltsp-{secrets.token_hex(8)}"
    with locks.hold_exclusive(f"{LOCKS}/{name}"):
        try:
            yield name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(f"{LOCKS}/{name}")


@contextmanager
def claim_orphan(name: str) -> Iterator[bool]:
    """Whether a snapshot has a name of ours whose run is gone; nobody else takes it for that within the block."""
    if not _NAME.fullmatch(name):
        yield False
        return
    os.makedirs(LOCKS, mode=0o700, exist_ok=True)
    try:
        with locks.hold_exclusive(f"{LOCKS}/{name}"):
            yield True
            with suppress(FileNotFoundError):
                os.unlink(f"{LOCKS}/{name}")
    except locks.LockBusy:
        yield False
