"""Lower priority for a build: this program starts itself again, once, through a prefix command and in its own place.

There is no parent that waits, so that signals, the terminal and the exit status are those of the build. Called
before the heavy imports, since what was imported until then is imported twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ltsp.errors import UsageError

_MARK = "LTSP_PRIORITY_LOWERED"
"""In the environment of the second start alone; it ends the loop."""
_SYSTEMD = "/run/systemd/private"
"""The socket where the first process takes root's orders, if it is systemd."""
_WEIGHT = 20
"""Of CPU and disk, in a systemd scope; everyone else has 100. systemd.resource-control(5)"""


def lower(prefix: Sequence[str] | None) -> None:
    """Go on at the priority that a prefix command gives; None is the default one, no words none.

    Returns where nothing is to be done or all is done already. Raises UsageError when the prefix is no program.
    """
    if os.environ.pop(_MARK, None) is not None:
        return
    words = default(systemd=os.geteuid() == 0 and os.path.exists(_SYSTEMD)) if prefix is None else prefix
    if words:
        _restart(words)


def default(*, systemd: bool) -> Sequence[str]:
    """A transient scope with low weights where systemd runs; else what is there of nice(1) and ionice(1).

    `-t` lets ionice pass where the kernel or a container does not grant the idle class.
    """
    if systemd and _there("systemd-run"):
        weights = (f"-pCPUWeight={_WEIGHT}", f"-pIOWeight={_WEIGHT}")
        return ["systemd-run", "--scope", "--quiet", "--collect", *weights, "--"]
    nice = ["nice"] if _there("nice") else []
    ionice = ["ionice", "-c3", "-t"] if _there("ionice") else []
    return [*nice, *ionice]


def _there(program: str) -> bool:
    return any(os.access(os.path.join(place, program), os.X_OK) for place in os.get_exec_path())


def _restart(words: Sequence[str]) -> None:
    again = [*words, sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(words[0], again, {**os.environ, _MARK: "1"})  # noqa: S606 -- the administrator names it, and no shell reads it
    except (OSError, ValueError) as error:  # ValueError: an empty word, or one with a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot run {words[0]!a} of --ionice: {reason}", 'give --ionice="" for none') from error
