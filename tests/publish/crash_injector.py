"""Operations that die at a chosen change of the file system, as quickly as a state machine needs them.

A child forks for each operation and leaves by `_exit` at the Nth change: no handler runs, as with SIGKILL. The server
is a process of its own, because a test's process has threads, and those do not live on in a fork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltsp.errors import LtspError
from ltsp.publish.store import Store
from publish.labelled_images import operate

KILLED = 9
_SOURCE = Path(__file__).parent.parent.parent / "src"
_CHANGES = {"os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.chmod", "os.utime"}
"""Audit events. They are raised before the call, so dying there is dying between two changes."""
_MAKES = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY


class CrashServer:
    """Asks the server; one operation at a time."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def operate(self, store: Store, operation: str, label: str, die_at: int | None = None) -> tuple[int, str]:
        """Exit status and the message of a failure; status KILLED where it died."""
        assert self._server.stdin
        assert self._server.stdout
        order = {"store": [store.base_dir, store.tftp_dir], "operation": operation, "label": label, "die_at": die_at}
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        status, message = json.loads(self._server.stdout.readline())
        return status, message


@contextmanager
def start_crash_server() -> Iterator[CrashServer]:
    path = os.pathsep.join([str(_SOURCE), str(Path(__file__).parent.parent)])
    with subprocess.Popen(
        [sys.executable, "-B", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as server:
        yield CrashServer(server)
        assert server.stdin
        server.stdin.close()


def _serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os._exit(_lived(order, writing))
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as said:
            message = said.read()
        _, status = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), message]), flush=True)  # noqa: T201 -- the answer


def _lived(order: dict[str, Any], writing: int) -> int:
    if order["die_at"] is not None:
        _die_at(order["die_at"])
    try:
        operate(Store(*order["store"]), order["operation"], order["label"])
    except LtspError as error:
        os.write(writing, str(error).encode("utf-8", "replace"))
        return error.exit_status
    except BaseException as error:
        os.write(writing, repr(error).encode("utf-8", "replace"))
        return 99
    return 0


def _die_at(change: int) -> None:
    left = change

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _MAKES):
            left -= 1
            if left < 0:
                os._exit(KILLED)

    sys.addaudithook(hook)


if __name__ == "__main__":
    _serve()
