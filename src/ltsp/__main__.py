"""The program as it is started: `ltsp`, and `python -m ltsp`.

Until it listens to signals they end it as they end any program, with no traceback from the middle of an import.
"""

from __future__ import annotations

import signal
from typing import NoReturn

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> NoReturn:
    from ltsp.cli.main import main as start  # noqa: PLC0415 -- see above

    start()


if __name__ == "__main__":
    main()
