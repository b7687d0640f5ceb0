"""The entry point of `ltsp` and `python -m ltsp`.

Until it listens to signals they end it as they end any program, with no traceback from the middle of an import.
"""

from __future__ import annotations

import gc
import signal
from typing import NoReturn

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Modules, and the million objects of a tree, live to the end: looking for cycles among them finds none.
gc.disable()


def main() -> NoReturn:
    from ltsp.cli.main import main as start  # noqa: PLC0415 -- see above

    start()


if __name__ == "__main__":
    main()
