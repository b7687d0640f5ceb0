"""strace(1) as a lever: list a program's file-changing calls, kill it at one of them, or make one fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = Path(__file__).with_name("labelled.py")
_SOURCE = _PROGRAM.parent.parent.parent / "src"

CHANGING = (
    *("open", "openat", "creat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync"),
    *("link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "utimensat"),
)
_LINE = re.compile(r"^(\d+) +([a-z_0-9]+)\((.*)")
_MAKES = re.compile(r"O_CREAT|O_TMPFILE")


@dataclass(frozen=True)
class Call:
    name: str
    nth: int
    """Of the calls of that name in its thread, from 1 on, as strace counts them."""

    def __str__(self) -> str:
        return f"{self.name}#{self.nth}"


def run(arguments: list[str], *strace: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The labelled program, below strace if there are options for that."""
    command = [sys.executable, "-B", str(_PROGRAM), *arguments]
    if strace:
        command = ["strace", "-f", "-qq", *strace, *command]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"PYTHONPATH": str(_SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def calls(arguments: list[str], log: Path) -> list[Call]:
    """The file-changing calls that the program makes, in order; one thread's where several make them at once."""
    present = [name for name in CHANGING if name not in _MISSING]
    done = run(arguments, "-o", str(log), "-e", f"trace={','.join(present)}")
    assert done.returncode == 0, done.stderr
    count: dict[tuple[str, str], int] = {}
    found: list[Call] = []
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        nth = count[thread, name] = count.get((thread, name), 0) + 1
        if name in {"open", "openat"} and not _MAKES.search(rest):
            continue
        found.append(Call(name, nth))
    return found


def _missing() -> frozenset[str]:
    """Names that this architecture has no call for: arm64 has no open, link or rename, only the *at forms."""
    refused = []
    for name in CHANGING:
        done = subprocess.run(["strace", "-e", f"trace={name}", "true"], capture_output=True, check=False)
        refused += [name] if b"invalid system call" in done.stderr else []
    return frozenset(refused)


_MISSING = _missing()


def kill_at(call: Call) -> tuple[str, ...]:
    return "-o", "/dev/null", "-e", f"inject={call.name}:signal=KILL:when={call.nth}"


def fail_at(call: Call, error: str) -> tuple[str, ...]:
    return "-o", "/dev/null", "-e", f"inject={call.name}:error={error}:when={call.nth}"
