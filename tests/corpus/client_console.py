"""A diskless PC with somebody at its console: it boots from the network like any client, and gets typed input."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pexpect
from pexpect.fdpexpect import fdspawn

from ltsp.boottest.machine import NetworkBoot, VirtualMachine
from ltsp.host import command

MAC = "52:54:00:12:34:56"
MENU = "ltsp/ltsp.ipxe"
BOOT_SECONDS = 300
"""A boot takes 30 to 60 on two processors without KVM that have nothing else to do."""
_ANSWER_SECONDS = 90
_TAIL = 4000
"""Characters of the console that a failure shows."""


@dataclass(slots=True)
class ClientConsole:
    _console: fdspawn[bytes]
    said: bytearray
    """Everything that the console has printed."""

    def wait(self, pattern: str, seconds: float = _ANSWER_SECONDS) -> str:
        """Wait for the text; returns the output before it."""
        try:
            self._console.expect(pattern.encode(), timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            tail = bytes(self.said[-_TAIL:]).decode(errors="replace")
            raise AssertionError(f"{type(error).__name__} waiting for {pattern!r}: {tail}") from None
        assert isinstance(self._console.before, bytes)
        return self._console.before.decode(errors="replace")

    def type(self, text: str) -> None:
        self._console.send(text.encode())

    def log_in(self, user: str, password: str) -> None:
        """Log in at the prompt of a getty, up to a shell without prompts and echo."""
        self.wait("login: ", BOOT_SECONDS)
        self.type(f"{user}\n")
        self.wait("Password: ")
        self.type(f"{password}\n")
        self.wait("[$#] $")
        # Split, so that the echo of the line is not mistaken for its answer.
        self.type("stty -echo; exec env PS1= PS2= sh -c 'echo =rea''dy=; exec sh'\n")
        self.wait("=ready=\r\n")

    def run(self, line: str, seconds: float = _ANSWER_SECONDS) -> str:
        """The stripped output of a command, which must exit with status 0."""
        self.type(f"{{ {line}\n}} 2>&1; echo =$?=\n")
        text = self.wait("=[0-9]+=\r\n", seconds).replace("\r\n", "\n").strip()
        assert isinstance(self._console.after, bytes)
        assert self._console.after == b"=0=\r\n", f"{line}: {text}"
        return text


@contextmanager
def start_client(tftp: Path, mac: str = MAC, memory: int = 768) -> Iterator[ClientConsole]:
    """Boot the site's own menu; the caller holds the lock of the machines, and is in the servers' network."""
    machine = VirtualMachine(NetworkBoot(MENU, str(tftp)), memory=memory, mac=mac)
    console, console_there = socket.socketpair()
    monitor, monitor_there = socket.socketpair()
    with console, console_there, monitor, monitor_there:
        descriptors = [console_there.fileno(), monitor_there.fileno()]
        arguments = machine.arguments(*descriptors)
        with command.start_in_background(arguments, descriptors=descriptors, package="qemu-system-x86"):
            console_there.close()
            said = _Recorder()
            spawned = fdspawn(console.fileno(), timeout=BOOT_SECONDS)
            spawned.logfile_read = said
            yield ClientConsole(spawned, said.text)


class _Recorder:
    """A file-like object into which pexpect logs."""

    def __init__(self) -> None:
        self.text = bytearray()

    def write(self, data: bytes) -> None:
        self.text += data

    def flush(self) -> None:
        """Nothing is buffered."""
