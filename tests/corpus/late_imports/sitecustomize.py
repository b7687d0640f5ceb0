"""For the start of an interpreter by PYTHONPATH: what it imports after it has been confined goes to $LATE_IMPORTS.

A confined process may be unable to read the modules that lie on the machine, and one that is missing may be missed by
nobody: some have a slower twin.
"""

from __future__ import annotations

import os
import resource
import sys

_SEEN = os.open(os.environ["LATE_IMPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


class _Watch:
    confined = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Audit events. `ltsp.sandbox.confine` begins with the limit of memory."""
        if event == "resource.setrlimit" and arguments[0] == resource.RLIMIT_AS:
            self.confined = True
        elif event == "import" and self.confined:
            os.write(_SEEN, f"{arguments[0]}\n".encode())


sys.addaudithook(_Watch())
