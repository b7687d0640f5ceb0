"""Names for LVM and ZFS snapshots, and locks that distinguish those in use from orphans.

The lock is on a file of that name below /run, which is empty after a reboot; the kernel drops it if the run is killed.
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
    """A new name, reserved until the block ends."""
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
    """Whether the snapshot was left by an LTSP run that is gone; no other process claims it within the block."""
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
