"""A server of a boot test: a program that listens on the loopback during its block, and its log."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.host import command
from ltsp.host.command import BackgroundProgram

_START_TIMEOUT = 20.0
_POLL_INTERVAL = 0.05
"""Seconds between tries to connect."""
_LOG_LINES = 12
"""Number of last lines of a log that are shown with a failure."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    name: str
    """The program's name, for people."""
    process: BackgroundProgram
    condense_log: Callable[[bytes], bytes] = bytes
    """Reduces its standard output and error, to which it must log, to the important lines."""

    @property
    def log(self) -> tuple[str, ...]:
        """Its last lines, safe to print."""
        return tuple(command.printable_lines(self.condense_log(self.process.output()))[-_LOG_LINES:])

    def exit_error(self, timeout: float = 0) -> LtspError | None:
        """Why it ended; None if it still runs after this many seconds."""
        status = self.process.status(timeout)
        return (
            None if status is None else command.exit_error(self.name, status, self.condense_log(self.process.output()))
        )

    def wait_for_port(self, port: int) -> None:
        """Wait until it accepts connections.

        Raises LtspError if it ends or does not listen in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), _START_TIMEOUT):
                    return
            except ConnectionRefusedError:
                failure = self.exit_error(_POLL_INTERVAL)
            if failure is not None:
                raise failure
        said = " | ".join(self.log)
        raise LtspError(
            f"{self.name} is not listening on port {port} after {_START_TIMEOUT:.0f} seconds"
            + (f": {said}" if said else ""),
            "try again when the machine is less busy",
        )


@contextmanager
def start_server(
    arguments: Sequence[str], port: int, *, package: str, name: str = "", condense_log: Callable[[bytes], bytes] = bytes
) -> Iterator[ServerProcess]:
    """Run a server on the loopback of this thread's private network.

    `name` is that of the program if another one starts it. Raises LtspError if it is missing or does not start to
    listen.
    """
    with command.start_in_background(arguments, package=package) as process:
        server = ServerProcess(name or arguments[0], process, condense_log)
        server.wait_for_port(port)
        yield server
