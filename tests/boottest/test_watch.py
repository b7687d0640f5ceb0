"""How long a console is watched, whatever machine is behind it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

from ltsp.boottest.console import REPORT_PREFIX, BootStage, Console
from ltsp.boottest.run import WatchOptions, _watch_console
from ltsp.errors import LtspError


class Running:
    """QEMU that has not ended."""

    def status(self, _seconds=0.0):
        return None


@contextmanager
def told(*lines):
    """A console on which a line comes every tenth of a second."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        end = threading.Event()

        def tell():
            for line in lines:
                if end.wait(0.1):
                    return
                there.send(line)

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            yield here
        finally:
            end.set()
            teller.join()


def test_a_machine_without_output_is_not_waited_for():
    console = Console()
    begin = time.monotonic()
    with told(*[b"Linux version 6\n"] * 25) as connection:
        assert (
            _watch_console(connection, Running(), console, WatchOptions(60, silence_timeout=2))
            == "no output for 2 seconds"
        )
    assert 4 < time.monotonic() - begin < 30
    assert console.stage is BootStage.KERNEL


def test_a_server_that_ends_ends_the_run():
    class Ended:
        def exit_error(self):
            return LtspError("nbdkit failed with exit status 1: no such file")

    with told(*[b"Linux version 6\n"] * 50) as connection:
        ending = _watch_console(connection, Running(), Console(), WatchOptions(60), [Ended()])
    assert ending == "nbdkit failed with exit status 1: no such file"


def test_the_report_and_the_prompt_end_the_run():
    reached = []
    watch = WatchOptions(60, on_stage=lambda stage, _seconds: reached.append(stage))
    with told(REPORT_PREFIX.encode() + b"{}\n", b"pc login: ") as connection:
        assert _watch_console(connection, Running(), Console(), watch) == ""
    assert reached == [BootStage.POWER, BootStage.LOGIN]
