"""Controls systemd, if it is the init of this machine. sd_booted(3)"""

from __future__ import annotations

import os

from ltsp.host import command


def is_running() -> bool:
    return os.path.isdir("/run/systemd/system")


def enable_and_start(unit: str, *, restart: bool) -> None:
    """Start a unit now and at each boot; `restart` is for a unit whose file has changed.

    Raises LtspError as `restart` does.
    """
    command.run(["systemctl", "daemon-reload"])
    command.run(["systemctl", "enable", unit])
    command.run(["systemctl", "restart" if restart else "start", unit])


def restart(unit: str) -> None:
    """Raises LtspError, with the output of systemctl, if the unit does not exist or does not start."""
    command.run(["systemctl", "restart", unit])
