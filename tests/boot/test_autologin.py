"""AUTOLOGIN and RELOGIN on the console of a client without a display manager."""

from __future__ import annotations

import time

import pytest

from corpus.classroom import CONSOLE, HASH, PASSWORD, Classroom
from corpus.client_console import MAC, ClientConsole, start_client

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

CONF = f"""\
[clients]
{CONSOLE}
HOSTNAME=pc07
AUTOLOGIN=pc/guest
PASSWORDS_ROOT='root/{HASH}'

[{MAC}]
RELOGIN=0
"""
PEOPLE = "guest07:x:5007:5007::/tmp:/bin/sh\n"
GROUPS = "guest07:x:5007:\n"
_ON_SCREEN = "for each in $(cat /sys/fs/cgroup/system.slice/system-getty.slice/getty@tty1.service/cgroup.procs); do "


def on_screen(desk: ClientConsole, awaited: str) -> str:
    """The user whose programs run on the first screen, once it is the expected one or the time is up."""
    seen = ""
    for _ in range(20):
        seen = desk.run(f"{_ON_SCREEN} stat -c '%U:%N' /proc/$each/exe; done | sort -u")
        if awaited in seen:
            break
        time.sleep(1)
    return seen


def log_out(desk: ClientConsole) -> None:
    desk.run(f"{_ON_SCREEN} kill -KILL $each; done")


def test_the_named_user_is_logged_in_and_again_after_logging_out_if_configured(debian_root, tmp_path):
    room = Classroom.make(tmp_path, debian_root)
    room.publish()
    room.configure(CONF, PEOPLE, GROUPS)
    with room.open(), start_client(room.site.tftp) as desk:
        desk.log_in("root", PASSWORD)
        assert "guest07:" in on_screen(desk, "guest07:")
        log_out(desk)
        assert "agetty" in on_screen(desk, "agetty")
        assert "guest07:" not in on_screen(desk, "agetty")
        # What RELOGIN=1 has there, which is the default.
        desk.run("echo 1 >/etc/ltsp/relogin")
        log_out(desk)
        assert "guest07:" in on_screen(desk, "guest07:")
