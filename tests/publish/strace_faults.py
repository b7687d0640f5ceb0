"""strace(1) as a lever: list the calls that a program makes on a store, kill it at one of them, or make one fail."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROGRAM = Path(__file__).with_name("labelled_images.py")
_SOURCE = _PROGRAM.parent.parent.parent / "src"

CHANGING = (
    *("open", "openat", "write", "pwrite64", "pwritev", "ftruncate", "fsync", "fdatasync"),
    *("link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "utimensat"),
)
READING = ("read", "getdents64", "flock", "statfs")
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
    prefix = ["strace", "-f", "-qq", *strace] if strace else []
    return subprocess.run(
        [*prefix, *command(arguments)], capture_output=True, text=True, timeout=timeout, check=False, env=environment()
    )


def command(arguments: list[str]) -> list[str]:
    return [sys.executable, str(_PROGRAM), *arguments]


def environment() -> dict[str, str]:
    return _variables(_compiled())


def _variables(cache_directory: str) -> dict[str, str]:
    variables = os.environ | {"PYTHONPATH": str(_SOURCE), "PYTHONPYCACHEPREFIX": cache_directory}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


@cache
def _compiled() -> str:
    """A directory with the compiled program: how many calls it makes must not depend on who compiled it before."""
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    # A whole operation, because some modules are imported when they are first used.
    publishing = command([f"{directory.name}/srv", f"{directory.name}/tftp", "publish", "once"])
    subprocess.run(publishing, capture_output=True, check=True, env=_variables(directory.name))
    return directory.name


def calls(arguments: list[str], log: Path, names: tuple[str, ...] = CHANGING) -> list[Call]:
    """The calls of these names that the program makes on the store, in order; an open only if it creates a file."""
    present = ",".join(name for name in names if _exists(name))
    done = run(arguments, "-y", "-o", str(log), "-e", f"trace={present}")
    assert done.returncode == 0, done.stderr
    store = os.path.commonpath(arguments[:2])
    count: Counter[tuple[str, str]] = Counter()
    unsteady: set[str] = set()
    found: list[Call] = []
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name, rest = match.groups()
        count[thread, name] += 1
        if "</proc" in rest:
            # The number of processes to inspect differs from run to run, so later calls cannot be counted.
            unsteady.add(name)
        if store in rest and name not in unsteady and (name not in {"open", "openat"} or _MAKES.search(rest)):
            found.append(Call(name, count[thread, name]))
    return found


@cache
def _exists(name: str) -> bool:
    """Whether this architecture has the call: arm64 has no open, link or rename, only the forms that end in at."""
    done = subprocess.run(["strace", "-e", f"trace={name}", "true"], capture_output=True, check=False)
    return b"invalid system call" not in done.stderr


def kill_at(call: Call) -> tuple[str, ...]:
    return "-o", "/dev/null", "-e", f"trace={call.name}", "-e", f"inject={call.name}:signal=KILL:when={call.nth}"


def fail_at(call: Call, error: str) -> tuple[str, ...]:
    inject = f"inject={call.name}:error={error}:when={call.nth}"
    # The filter makes it fast; a signal would get lost with it (strace 6.1).
    return "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject
