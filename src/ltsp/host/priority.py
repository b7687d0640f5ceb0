"""Lower priority for a build: this program starts itself again, once, through a prefix command.

Most of these (nice, ionice, chrt, systemd-run --scope) exec what they run, so this process execs them: no parent waits,
and signals, the terminal and the exit status are those of the build. Others, such as timeout(1), stay as parents of the
build and may end it: for those this process waits, and reports how they ended. Call this before the heavy imports,
which would otherwise happen twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ltsp.errors import LtspError, UsageError

_MARK_VARIABLE = "LTSP_PRIORITY_LOWERED"
"""Set in the environment of the second start only, to end the loop; names the pipe to a waiting parent, if any."""
_SYSTEMD_SOCKET = "/run/systemd/private"
"""The socket where the first process takes root's orders, if it is systemd."""
_WEIGHT = 20
"""CPU and disk weight in a systemd scope; the default is 100. systemd.resource-control(5)"""
_SI_KERNEL = 0x80
"""SI_KERNEL: the terminal sends signals to a whole group. sigaction(2)"""
_MAX_TRIAL_OUTPUT = 1 << 12
"""Limit in bytes on the output that is read in the trial of a prefix."""


_status_pipe: int | None = None
"""The write end of the pipe on which the second start reports how it ended."""


def rerun_at_lower_priority(prefix: Sequence[str] | None) -> int | None:
    """Continue at the priority that a prefix command sets; None means the default one, an empty list none.

    Returns None if the build is to be done in this process, otherwise the exit status of the build. Raises UsageError
    if the prefix is not a program, or does not run its arguments, and LtspError if it ended differently from the build.
    """
    mark = os.environ.pop(_MARK_VARIABLE, None)
    if mark is not None:
        _adopt_status_pipe(mark)
    elif prefix is None:
        _exec_under_prefix(
            _find_working_prefix(default_prefixes(systemd=os.geteuid() == 0 and os.path.exists(_SYSTEMD_SOCKET)))
        )
    elif prefix:
        trial = _try_prefix(prefix)
        if trial.reason:
            raise _cannot_run_error(prefix, trial.reason)
        if not trial.used_exec:
            return _run_under_prefix(prefix)
        _exec_under_prefix(prefix)
    return None


def report_exit_status(status: int) -> None:
    """Report to the waiting parent, if any, that the build ended by itself."""
    if _status_pipe is not None:
        try:
            os.write(_status_pipe, bytes([status]))
        except OSError:
            return  # the parent is gone


def default_prefixes(*, systemd: bool) -> Iterator[Sequence[str]]:
    """A transient scope with low weights if systemd is running; otherwise nice(1) and ionice(1), if installed.

    With `-t`, ionice continues if the kernel or container refuses the idle class; busybox lacks that option.
    """
    if systemd and _is_installed("systemd-run"):
        weights = (f"-pCPUWeight={_WEIGHT}", f"-pIOWeight={_WEIGHT}")
        yield ["systemd-run", "--scope", "--quiet", "--collect", *weights, "--"]
    nice = ["nice"] if _is_installed("nice") else []
    if _is_installed("ionice"):
        yield [*nice, "ionice", "-c3", "-t"]
    if nice:
        yield nice


def _is_installed(program: str) -> bool:
    return any(os.access(os.path.join(directory, program), os.X_OK) for directory in os.get_exec_path())


def _find_working_prefix(prefixes: Iterable[Sequence[str]]) -> Sequence[str]:
    """A systemd that does not answer, or a container's limits, are no reason not to build."""
    return next((prefix for prefix in prefixes if not _try_prefix(prefix).reason), ())


class _PrefixTrial:
    """The trial of a prefix with a small program: why it is unusable, or empty, and whether it used exec."""

    __slots__ = ("reason", "used_exec")

    def __init__(self, reason: str = "", *, used_exec: bool = False) -> None:
        self.reason = reason
        self.used_exec = used_exec


def _try_prefix(prefix: Sequence[str]) -> _PrefixTrial:
    """Raises UsageError if it cannot be started."""
    received = b""
    reader, writer = os.pipe()
    program = ["/bin/sh", "-c", f'echo "$((6 * 7)) $$ ${_MARK_VARIABLE}"']
    try:
        output = [(os.POSIX_SPAWN_DUP2, writer, number) for number in (1, 2)]
        environ = {**os.environ, _MARK_VARIABLE: "1"}
        child = os.posix_spawnp(prefix[0], [*prefix, *program], environ, file_actions=output)
    except (OSError, ValueError) as error:  # ValueError: a word with a NUL byte
        os.close(reader)
        raise _cannot_run_error(prefix, getattr(error, "strerror", "") or str(error)) from error
    finally:
        os.close(writer)
    with open(reader, "rb", buffering=0) as lines:
        while len(received) < _MAX_TRIAL_OUTPUT and (piece := lines.read(_MAX_TRIAL_OUTPUT)):
            received += piece
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ran = next((line.split() for line in received.split(b"\n") if line.startswith(b"42 ")), None)
    if ran is None:
        last = received.strip().rpartition(b"\n")[2].decode("utf-8", "backslashreplace")
        return _PrefixTrial(
            f"it ended {_describe_exit(status)} without running the program{f': {last}' if last else ''}"
        )
    if ran[2:] != [b"1"]:
        return _PrefixTrial("it does not pass on the environment")  # so it would restart endlessly
    return _PrefixTrial(used_exec=ran[1] == str(child).encode())


def _describe_exit(status: int) -> str:
    """How a program ended, from its waitstatus_to_exitcode."""
    return f"with status {status}" if status >= 0 else f"by signal {-status}"


def _run_under_prefix(prefix: Sequence[str]) -> int:
    """The exit status of a build whose prefix stays as its parent.

    Raises LtspError if the prefix ended differently from the build, which reports its own errors.
    """
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    status = _run_and_wait(prefix, {**os.environ, _MARK_VARIABLE: f"{writer}:{os.fstat(writer).st_ino}"})
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        received = os.read(reader, 1)
    except BlockingIOError:  # the build outlives the prefix
        received = b""
    os.close(reader)
    if received == bytes([status & 0xFF]) and status >= 0:
        return status
    build = f"the build ended with status {received[0]}" if received else "the build did not finish"
    error = LtspError(
        f"{' '.join(prefix)!a} (from --ionice) ended {_describe_exit(status)}, and {build}",
        'to run without it, give --ionice=""',
    )
    error.exit_status = status or 1 if status >= 0 else 128 - status
    raise error


def _run_and_wait(prefix: Sequence[str], environ: Mapping[str, str]) -> int:
    """Pass signals on to the prefix; those of the terminal already reach it if it is in the foreground group."""
    import signal  # noqa: PLC0415 -- most builds have nobody who waits

    passed_on = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*passed_on, signal.SIGCHLD})
    try:
        program = [*prefix, sys.executable, *sys.orig_argv[1:]]
        child = os.posix_spawnp(prefix[0], program, environ, setsigmask=previous_mask)
        while True:
            received_signal = signal.sigwaitinfo({*passed_on, signal.SIGCHLD})
            ended_pid, status = os.waitpid(child, os.WNOHANG)
            if ended_pid:
                return os.waitstatus_to_exitcode(status)
            if received_signal.si_signo in passed_on and (
                received_signal.si_code != _SI_KERNEL or os.getpgid(child) != os.getpgrp()
            ):
                os.kill(child, received_signal.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def _adopt_status_pipe(mark: str) -> None:
    """A prefix may have closed it, and its number may have been reused."""
    global _status_pipe  # noqa: PLW0603 -- there is one second start in a process
    number, _, inode = mark.partition(":")
    try:
        if inode and os.fstat(int(number)).st_ino == int(inode):
            os.set_inheritable(int(number), False)
            _status_pipe = int(number)
    except OSError:
        return


def _exec_under_prefix(prefix: Sequence[str]) -> None:
    if not prefix:
        return
    again = [*prefix, sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(prefix[0], again, {**os.environ, _MARK_VARIABLE: "1"})  # noqa: S606 -- the administrator names it, and no shell reads it
    except OSError as error:
        raise _cannot_run_error(prefix, error.strerror or str(error)) from error


def _cannot_run_error(prefix: Sequence[str], reason: str) -> UsageError:
    return UsageError(
        f"cannot run {' '.join(prefix)!a} (from --ionice): {reason}", 'to run without it, give --ionice=""'
    )
