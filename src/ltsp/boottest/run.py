"""Running a boot test: a machine is switched on and watched until its boot is over."""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from ltsp.boottest.console import BootStage, Console
from ltsp.boottest.machine import VirtualMachine
from ltsp.boottest.monitor import QemuMonitor, to_png
from ltsp.boottest.server import ServerProcess
from ltsp.boottest.verdict import Verdict
from ltsp.errors import LtspError
from ltsp.host import command
from ltsp.host.command import ServerProgram

_PATIENCE = 0.5
"""Maximum seconds between checks."""
_FOR_LOGIN = 30.0
"""Seconds to wait for the login prompt after the report."""
_PACKAGE = "qemu-system-x86"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Limits and outputs of a run."""

    timeout: float
    """Seconds from power-on."""
    silence: float = math.inf
    """Seconds without output on the console after which the run ends."""
    reached: Callable[[BootStage, float], None] = lambda _stage, _seconds: None
    """Called with each new stage and its seconds."""
    printed: Callable[[bytes, float], None] = lambda _data, _seconds: None
    """Called with the console's output as it arrives."""
    screenshot: str = ""
    """A PNG file to write when the boot is over; empty for none."""


def run_boot_test(
    machine: VirtualMachine, watch: WatchOptions, image: str = "", servers: Sequence[ServerProcess] = ()
) -> Verdict:
    """Boot the machine; its QEMU has ended when this returns. `image` is what it should boot, as in ltsp.image=.

    The run ends if one of the servers ends.

    Raises LtspError if QEMU is missing or refuses its arguments, or the screenshot cannot be taken.
    """
    console, console_there = socket.socketpair()
    monitor, monitor_there = socket.socketpair()
    with console, console_there, monitor, monitor_there:
        descriptors = [console_there.fileno(), monitor_there.fileno()]
        arguments = machine.arguments(*descriptors)
        with command.serve(arguments, descriptors=descriptors, package=_PACKAGE) as qemu:
            console_there.close()
            monitor_there.close()
            console.setblocking(False)
            read = Console()
            ending = _watch_console(console, qemu, read, watch, servers)
            if watch.screenshot and qemu.status() is None:
                _take_picture(QemuMonitor(monitor), watch.screenshot)
        return Verdict.of(read, ending, image, {server.name: server.log for server in servers})


def _watch_console(
    connection: socket.socket,
    qemu: ServerProgram,
    console: Console,
    watch: WatchOptions,
    servers: Sequence[ServerProcess] = (),
) -> str:
    """Feed the console until the boot is over; returns why reading stopped, or an empty text."""
    began = time.monotonic()
    reported: set[BootStage] = set()
    end = watch.timeout
    heard = 0.0
    while (now := time.monotonic() - began) < end:
        if now - heard > watch.silence:
            return f"no output for {watch.silence:.0f} seconds"
        if select.select([connection], [], [], min(_PATIENCE, end - now))[0]:
            data = b""
            with suppress(ConnectionResetError):
                data = connection.recv(1 << 16)
            heard = now = time.monotonic() - began
            if not data:
                return _describe_end(qemu)
            watch.printed(data, now)
            console.feed(data, now)
        for stage, seconds in console.seconds.items():
            if stage not in reported:
                reported.add(stage)
                watch.reached(stage, seconds)
        if console.trouble or (console.report is not None and BootStage.LOGIN in console.seconds):
            return ""
        for server in servers:
            if failure := server.failure():
                return failure.message
        if console.report is not None and end == watch.timeout:
            end = min(watch.timeout, now + _FOR_LOGIN)
    return f"not finished after {watch.timeout:.0f} seconds"


def _describe_end(qemu: ServerProgram) -> str:
    """Why QEMU ended: the guest switched off or restarted.

    Raises LtspError if QEMU failed to start.
    """
    status = qemu.status(5)
    if status:
        raise command.failure(qemu.arguments[0], status, qemu.output())
    return "the machine restarted or switched itself off"


def _take_picture(monitor: QemuMonitor, path: str) -> None:
    with TemporaryDirectory(prefix="ltsp-screen-") as directory:
        pixmap = os.path.join(directory, "screen.ppm")
        monitor.screenshot(pixmap)
        with open(pixmap, "rb") as file:
            picture = to_png(file.read())
    try:
        with open(path, "wb") as file:
            file.write(picture)
    except OSError as error:
        raise LtspError(f"cannot write the screenshot: {error.strerror}") from error
