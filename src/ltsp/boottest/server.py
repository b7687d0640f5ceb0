"""A server of a boot test: a program that listens on the loopback during its block, and its log."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.host import command
from ltsp.host.command import ServerProgram

_SECONDS_TO_START = 20.0
_PATIENCE = 0.05
"""Seconds between tries to connect."""
_LOG_LINES = 12
"""Number of last lines of a log that are shown with a failure."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    name: str
    """The program's name, for people."""
    process: ServerProgram
    condense: Callable[[bytes], bytes] = bytes
    """Reduces its standard output and error, to which it must log, to the important lines."""

    @property
    def log(self) -> tuple[str, ...]:
        """Its last lines, safe to print."""
        return tuple(command.lines(self.condense(self.process.output()))[-_LOG_LINES:])

    def failure(self, seconds: float = 0) -> LtspError | None:
        """Why it ended; None if it still runs after this many seconds."""
        status = self.process.status(seconds)
        return None if status is None else command.failure(self.name, status, self.condense(self.process.output()))

    def wait_for(self, port: int) -> None:
        """Wait until it accepts connections.

        Raises LtspError if it ends or does not listen in time.
        """
        end = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", port), _SECONDS_TO_START):
                    return
            except ConnectionRefusedError:
                failure = self.failure(_PATIENCE)
            if failure is not None:
                raise failure
        said = " | ".join(self.log)
        raise LtspError(
            f"{self.name} is not listening on port {port} after {_SECONDS_TO_START:.0f} seconds"
            + (f": {said}" if said else ""),
            "try again when the machine is less busy",
        )


@contextmanager
def start_server(
    arguments: Sequence[str], port: int, *, package: str, name: str = "", condense: Callable[[bytes], bytes] = bytes
) -> Iterator[ServerProcess]:
    """Run a server on the loopback of this thread's private network.

    `name` is that of the program if another one starts it. Raises LtspError if it is missing or does not start to
    listen.
    """
    with command.serve(arguments, package=package) as process:
        server = ServerProcess(name or arguments[0], process, condense)
        server.wait_for(port)
        yield server
