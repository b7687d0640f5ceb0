"""Lower priority for a build: this program starts itself again, once, through a prefix command and in its own place.

There is no parent that waits, so that signals, the terminal and the exit status are those of the build. Called
before the heavy imports, since what was imported until then is imported twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from ltsp.errors import UsageError

_MARK = "LTSP_PRIORITY_LOWERED"
"""In the environment of the second start alone; it ends the loop."""
_SYSTEMD = "/run/systemd/private"
"""The socket where the first process takes root's orders, if it is systemd."""
_WEIGHT = 20
"""Of CPU and disk, in a systemd scope; everyone else has 100. systemd.resource-control(5)"""
_MOST_SAID = 1 << 12
"""Bytes that are read of what a prefix prints when it is tried."""


def lower(prefix: Sequence[str] | None) -> None:
    """Go on at the priority that a prefix command gives; None is the default one, no words none.

    Returns where nothing is to be done or all is done already. Raises UsageError when the prefix is no program, or one
    that does not run what follows it.
    """
    if os.environ.pop(_MARK, None) is not None:
        return
    if prefix is None:
        _restart(_first_that_works(defaults(systemd=os.geteuid() == 0 and os.path.exists(_SYSTEMD))))
    elif prefix:
        if reason := _refusal(prefix):
            raise _cannot_run(prefix, reason)
        _restart(prefix)


def defaults(*, systemd: bool) -> Iterator[Sequence[str]]:
    """A transient scope with low weights where systemd runs; else what is there of nice(1) and ionice(1).

    `-t` lets ionice pass where the kernel or a container does not grant the idle class; that of busybox lacks it.
    """
    if systemd and _there("systemd-run"):
        weights = (f"-pCPUWeight={_WEIGHT}", f"-pIOWeight={_WEIGHT}")
        yield ["systemd-run", "--scope", "--quiet", "--collect", *weights, "--"]
    nice = ["nice"] if _there("nice") else []
    if _there("ionice"):
        yield [*nice, "ionice", "-c3", "-t"]
    if nice:
        yield nice


def _there(program: str) -> bool:
    return any(os.access(os.path.join(place, program), os.X_OK) for place in os.get_exec_path())


def _first_that_works(prefixes: Iterable[Sequence[str]]) -> Sequence[str]:
    """A systemd that does not answer, or a container's limits, are no reason not to build."""
    return next((words for words in prefixes if not _refusal(words)), ())


def _refusal(words: Sequence[str]) -> str:
    """Why a prefix does not run the program that follows it; empty where it does.

    It takes our own place later, where nobody is left to say what became of it: so it is tried on a small one first.
    Raises UsageError where it cannot be started.
    """
    said = b""
    reader, writer = os.pipe()
    try:
        output = [(os.POSIX_SPAWN_DUP2, writer, number) for number in (1, 2)]
        child = os.posix_spawnp(words[0], [*words, "/bin/sh", "-c", "echo $((6 * 7))"], os.environ, file_actions=output)
    except (OSError, ValueError) as error:  # ValueError: a word with a zero byte
        os.close(reader)
        raise _cannot_run(words, getattr(error, "strerror", "") or str(error)) from error
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as lines:
        while len(said) < _MOST_SAID and (piece := lines.read(_MOST_SAID)):
            said += piece
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if b"42" in said.split(b"\n"):
        return ""
    last = said.strip().rpartition(b"\n")[2].decode("utf-8", "backslashreplace")
    how = f"it ended with status {status}" if status >= 0 else f"signal {-status} ended it"
    return f"{how} and ran nothing{f': {last}' if last else ''}"


def _restart(words: Sequence[str]) -> None:
    if not words:
        return
    again = [*words, sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(words[0], again, {**os.environ, _MARK: "1"})  # noqa: S606 -- the administrator names it, and no shell reads it
    except OSError as error:
        raise _cannot_run(words, error.strerror or str(error)) from error


def _cannot_run(words: Sequence[str], reason: str) -> UsageError:
    return UsageError(f"cannot run {' '.join(words)!a} of --ionice: {reason}", 'give --ionice="" for none')
