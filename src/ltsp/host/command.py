"""Starts other programs, feeds, watches and ends them, and explains why one failed.

A program gets closed standard input unless it is fed, the C.UTF-8 locale, and a session of its own, so that a key
typed at the terminal reaches only us and everything that it started can be ended with it. None outlives us: leaving the
block kills the group, and if we are killed, the kernel kills the program (PR_SET_PDEATHSIG, set by setpriv(1): Python
code must not run between fork and exec, since other threads may hold locks).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from ltsp.errors import LtspError, ProgramTimeout
from ltsp.host.privilege import NOBODY, can_switch_to_user

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
"""Searched after PATH, which in `su` and cron lacks the directories of administration programs."""
_GRACE_PERIOD = 2.0
"""Seconds between SIGTERM and SIGKILL."""
_AS_NOBODY_OPTIONS = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
_NO_CAPABILITIES_OPTIONS = ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
"""For root in a container without the user nobody: its programs then regain no capabilities. capabilities(7)"""
_MAX_QUOTED_LINES = 5
"""The number of last output lines that an error quotes."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a program that has ended."""

    status: int
    """Its exit status; if negative, the number of the signal that ended it."""
    stdout: bytes
    stderr: bytes


@dataclass(slots=True)
class PipedProgram:
    """A running program with input from us; its output is kept for the error message."""

    arguments: Sequence[str]
    input: IO[bytes]
    _process: subprocess.Popen[bytes]
    _output: IO[bytes]

    def finish(self) -> None:
        """Close its input and wait for its end.

        Raises LtspError if it failed; the message contains its last output lines.
        """
        with suppress(BrokenPipeError):
            self.input.close()
        status = self._process.wait()
        if status:
            raise exit_error(self.arguments[0], status, self.output())

    def output(self) -> bytes:
        """The last 64 KiB of what it has printed so far on standard output and standard error."""
        return _read_tail(self._output)


@dataclass(slots=True)
class BackgroundProgram:
    """A program that runs in the background until its block ends, such as a server."""

    arguments: Sequence[str]
    _process: subprocess.Popen[bytes]
    _output: IO[bytes]

    def status(self, timeout: float = 0) -> int | None:
        """Its exit status, negative for a signal; None if it is still running after so many seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def output(self) -> bytes:
        """The last 64 KiB of what it has printed so far on standard output and standard error."""
        return _read_tail(self._output)


def run(
    arguments: Sequence[str],
    *,
    accepted_statuses: Collection[int] = (0,),
    package: str = "",
    standard_input: IO[bytes] | None = None,
    descriptors: Collection[int] = (),
    as_nobody: bool = False,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> Result:
    """Run a program to its end and return what it printed.

    `accepted_statuses` are the statuses that are not a failure; `package` is what to install if the program is missing;
    `as_nobody` drops root's privileges; `memory_limit` limits its address space in bytes. Raises LtspError if it is
    missing or failed, and ProgramTimeout after `timeout`.
    """
    with _start(
        arguments,
        descriptors=descriptors,
        package=package,
        as_nobody=as_nobody,
        memory_limit=memory_limit,
        stdin=standard_input.fileno() if standard_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ProgramTimeout(
                f"{_program_name(arguments[0])} did not finish within {timeout:.0f} seconds"
            ) from error
    if process.returncode not in accepted_statuses:
        raise exit_error(arguments[0], process.returncode, stderr or stdout)
    return Result(process.returncode, stdout, stderr)


@contextmanager
def start_with_input(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str | None] | None = None,
    descriptors: Collection[int] = (),
    package: str = "",
) -> Iterator[PipedProgram]:
    """Start a program whose standard input the block writes; if the block does not call `finish`, it is killed.

    A BrokenPipeError in the block is reported as the program's failure.
    """
    with _start_with_output(
        arguments, environment=environment, descriptors=descriptors, package=package, stdin=subprocess.PIPE
    ) as (process, output):
        assert process.stdin is not None
        running = PipedProgram(arguments, process.stdin, process, output)
        try:
            yield running
        except BrokenPipeError:
            running.finish()
            raise


@contextmanager
def start_in_background(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str | None] | None = None,
    descriptors: Collection[int] = (),
    package: str = "",
) -> Iterator[BackgroundProgram]:
    """Start a program that is ended with the block."""
    with _start_with_output(
        arguments, environment=environment, descriptors=descriptors, package=package, stdin=subprocess.DEVNULL
    ) as (process, output):
        yield BackgroundProgram(arguments, process, output)


@contextmanager
def _start_with_output(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str | None] | None,
    descriptors: Collection[int],
    package: str,
    stdin: int,
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A started program, and the unnamed file for its output."""
    with (
        open(os.memfd_create("output"), "r+b", buffering=0) as output,
        _start(
            arguments,
            environment=environment,
            descriptors=descriptors,
            package=package,
            stdin=stdin,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        yield process, output


def run_and_show(
    arguments: Sequence[str],
    show: Callable[[str], None],
    *,
    environment: Mapping[str, str | None] | None = None,
) -> int:
    """Run a program and hand each line that it prints to `show`, safe to print; return its status.

    It returns when the program ends, not its output: a service that it started may keep that open.
    """
    with (
        _start(
            arguments,
            environment=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
        _open_pidfd(process) as pidfd,
    ):
        assert process.stdout is not None
        output = process.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        rest = b""
        while events := dict(poll.poll()):
            piece = os.read(output, 1 << 16) if output in events else b""
            *printable_lines, rest = (rest + piece).split(b"\n")
            for line in printable_lines:
                show(_printable(line))
            if not piece:
                if pidfd in events:
                    break
                poll.unregister(output)
        if rest:
            show(_printable(rest))
        return process.wait()


def exit_error(program: str, status: int, output: bytes) -> LtspError:
    """Why a program failed: its status or signal, and its last lines."""
    if status < 0:
        try:
            how = f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            how = f"was killed by signal {-status}"
    else:
        how = f"failed with exit status {status}"
    last_lines = printable_lines(output)[-_MAX_QUOTED_LINES:]
    return LtspError(f"{_program_name(program)} {how}" + (": " + " | ".join(last_lines) if last_lines else ""))


def printable_lines(output: bytes) -> list[str]:
    """The non-blank lines of a program's output, safe to print."""
    return [line for line in map(_printable, output.replace(b"\r", b"\n").splitlines()) if line.strip()]


def find_program(program: str) -> str | None:
    """The path of a program, as it would be started; None if it is not found."""
    return shutil.which(program, path=_search_path())


def _read_tail(output: IO[bytes]) -> bytes:
    size = os.fstat(output.fileno()).st_size
    return os.pread(output.fileno(), 1 << 16, max(0, size - (1 << 16)))


@contextmanager
def _start(
    arguments: Sequence[str],
    *,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    environment: Mapping[str, str | None] | None = None,
    descriptors: Collection[int] = (),
    package: str = "",
    as_nobody: bool = False,
    memory_limit: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """`environment` changes ours, and None removes a variable; `descriptors` stay open in the program."""
    program = find_program(arguments[0])
    if program is None:
        name = _program_name(arguments[0])
        raise LtspError(f"{name} not found", f"install the package {package}" if package else "")
    line = [program, *arguments[1:]]
    if memory_limit is not None and (prlimit := find_program("prlimit")):
        line = [prlimit, f"--as={memory_limit}", "--", *line]
    if setpriv := find_program("setpriv"):
        line = [setpriv, "--pdeathsig", "KILL", *(_unprivileged_options() if as_nobody else ()), "--", *line]
    try:
        with _open_empty_input(stdin) as given:
            process = subprocess.Popen(
                [argument.encode("utf-8", "surrogateescape") for argument in line],
                stdin=given,
                stdout=stdout,
                stderr=stderr,
                env=_make_environment(environment or {}),
                pass_fds=tuple(descriptors),
                start_new_session=True,
            )
    except OSError as error:
        raise LtspError(f"cannot run {_program_name(program)}: {error.strerror}") from error
    with process:
        try:
            yield process
        finally:
            if process.returncode is None:
                _kill_group(process)


def _unprivileged_options() -> Sequence[str]:
    """Options of setpriv(1)."""
    if os.geteuid() != 0:
        return ("--no-new-privs",)
    return _AS_NOBODY_OPTIONS if can_switch_to_user(NOBODY) else _NO_CAPABILITIES_OPTIONS


@contextmanager
def _open_empty_input(stdin: int) -> Iterator[int]:
    """An empty input in place of DEVNULL, which works without /dev."""
    if stdin != subprocess.DEVNULL:
        yield stdin
        return
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        descriptor = os.memfd_create("nothing")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the program and all processes in its group.

    The program is reaped last: until then its PID, which is that of the group, cannot be reused.
    """
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    with _open_pidfd(process) as pidfd:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        select.select([pidfd], [], [], _GRACE_PERIOD)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _open_pidfd(process: subprocess.Popen[bytes]) -> Iterator[int]:
    descriptor = os.pidfd_open(process.pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LC_") and name != "LANGUAGE"}
    changed = {**inherited, "LANG": "C.UTF-8", "PATH": _search_path(), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def _search_path() -> str:
    given = [directory for directory in os.environ.get("PATH", "").split(":") if directory]
    return ":".join([*given, *(directory for directory in _SYSTEM_PATH if directory not in given)])


def _program_name(program: str) -> str:
    return _printable(os.path.basename(program).encode("utf-8", "surrogateescape"))


def _printable(line: bytes) -> str:
    """A line of a program's output, safe to print."""
    text = line.rstrip(b"\r").decode("utf-8", "backslashreplace").expandtabs()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
