"""A PC in QEMU whose network card has iPXE: it fetches files by TFTP, and shows its screen on a pipe."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from pathlib import Path

from corpus.diskless import one_at_a_time

SECONDS = 90
"""Three times what the slowest of these boots took on two busy processors without KVM."""
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r")


def screen(tftp: Path, until: str, mac: str = "52:54:00:12:34:56", *, keys: tuple[tuple[str, bytes], ...] = ()) -> str:
    """All that the PC has shown once `until` is there, or the time is over.

    `keys` are typed after their texts, each of them looked for behind what was there when the one before was typed.
    """
    network = f"user,id=net,tftp={tftp},bootfile=ltsp/ltsp.ipxe,restrict=off"
    arguments = ["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nographic", "-monitor", "none", "-no-reboot"]
    arguments += ["-serial", "stdio", "-boot", "n", "-netdev", network]
    arguments += ["-device", f"virtio-net-pci,netdev=net,mac={mac}"]
    with one_at_a_time():
        machine = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            return _watched(machine, until, list(keys))
        finally:
            machine.kill()
            machine.communicate()


def _watched(machine: subprocess.Popen[bytes], until: str, keys: list[tuple[str, bytes]]) -> str:
    assert machine.stdout is not None
    assert machine.stdin is not None
    shown, text, typed_at = b"", "", 0
    end = time.monotonic() + SECONDS
    while until not in text and (left := end - time.monotonic()) > 0:
        if not select.select([machine.stdout], [], [], left)[0]:
            break
        piece = os.read(machine.stdout.fileno(), 1 << 16)
        if not piece:
            break
        shown += piece
        # The screen is 80 columns wide, and its lines are broken there.
        text = re.sub(r"\s+", " ", _CONTROL.sub(b" ", shown).decode("ascii", "replace"))
        if keys and keys[0][0] in text[typed_at:]:
            machine.stdin.write(keys.pop(0)[1])
            machine.stdin.flush()
            typed_at = len(text)
    return text
