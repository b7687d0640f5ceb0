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
from ltsp.host.command import BackgroundProgram

_POLL_INTERVAL = 0.5
"""Maximum seconds between checks."""
_LOGIN_TIMEOUT = 30.0
"""Seconds to wait for the login prompt after the report."""
_QEMU_PACKAGE = "qemu-system-x86"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Limits and outputs of a run."""

    timeout: float
    """Seconds from power-on."""
    silence_timeout: float = math.inf
    """Seconds without output on the console after which the run ends."""
    on_stage: Callable[[BootStage, float], None] = lambda _stage, _seconds: None
    """Called with each new stage and its seconds."""
    on_output: Callable[[bytes, float], None] = lambda _data, _seconds: None
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
    console, console_peer = socket.socketpair()
    monitor, monitor_peer = socket.socketpair()
    with console, console_peer, monitor, monitor_peer:
        descriptors = [console_peer.fileno(), monitor_peer.fileno()]
        arguments = machine.arguments(*descriptors)
        with command.start_in_background(arguments, descriptors=descriptors, package=_QEMU_PACKAGE) as qemu:
            console_peer.close()
            monitor_peer.close()
            console.setblocking(False)
            boot_console = Console()
            stop_reason = _watch_console(console, qemu, boot_console, watch, servers)
            if watch.screenshot and qemu.status() is None:
                _save_screenshot(QemuMonitor(monitor), watch.screenshot)
        return Verdict.of(boot_console, stop_reason, image, {server.name: server.log for server in servers})


def _watch_console(
    connection: socket.socket,
    qemu: BackgroundProgram,
    console: Console,
    watch: WatchOptions,
    servers: Sequence[ServerProcess] = (),
) -> str:
    """Feed the console until the boot is over; returns why reading stopped, or an empty text."""
    start_time = time.monotonic()
    reported: set[BootStage] = set()
    deadline = watch.timeout
    last_output = 0.0
    while (now := time.monotonic() - start_time) < deadline:
        if now - last_output > watch.silence_timeout:
            return f"no output for {watch.silence_timeout:.0f} seconds"
        if select.select([connection], [], [], min(_POLL_INTERVAL, deadline - now))[0]:
            data = b""
            with suppress(ConnectionResetError):
                data = connection.recv(1 << 16)
            last_output = now = time.monotonic() - start_time
            if not data:
                return _describe_end(qemu)
            watch.on_output(data, now)
            console.feed(data, now)
        for stage, seconds in console.seconds.items():
            if stage not in reported:
                reported.add(stage)
                watch.on_stage(stage, seconds)
        if console.problem or (console.report is not None and BootStage.LOGIN in console.seconds):
            return ""
        for server in servers:
            if failure := server.exit_error():
                return failure.message
        if console.report is not None and deadline == watch.timeout:
            deadline = min(watch.timeout, now + _LOGIN_TIMEOUT)
    return f"not finished after {watch.timeout:.0f} seconds"


def _describe_end(qemu: BackgroundProgram) -> str:
    """Why QEMU ended: the guest switched off or restarted.

    Raises LtspError if QEMU failed to start.
    """
    status = qemu.status(5)
    if status:
        raise command.exit_error(qemu.arguments[0], status, qemu.output())
    return "the machine restarted or switched itself off"


def _save_screenshot(monitor: QemuMonitor, path: str) -> None:
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
