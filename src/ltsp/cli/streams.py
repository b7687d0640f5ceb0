"""Make sure that the standard streams are open, and that writes to them report errors."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

from ltsp.cli.signals import SignalReceived
from ltsp.errors import LtspError

_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}


def open_missing_streams() -> None:
    """Open /dev/null for each stream that was closed when the program started.

    Otherwise the next file to be opened, perhaps an image, gets its number, and output goes into it.
    """
    for number in _NAMES:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or _open_stream(1)
    sys.stderr = sys.stderr or _open_stream(2)


def write_text(stream: TextIO, text: str) -> None:
    """Write and flush; characters that the stream's encoding lacks are escaped.

    Raises LtspError if the write fails, SignalReceived (SIGPIPE) if the reader is gone.
    """
    encoding = stream.encoding or "ascii"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _discard_unwritten(stream)
        raise SignalReceived(signal.SIGPIPE) from None
    except OSError as error:
        _discard_unwritten(stream)
        raise LtspError(f"cannot write to {_stream_name(stream)}: {error.strerror}") from error


def _discard_unwritten(stream: TextIO) -> None:
    """Discard a stream's buffer: Python would report the error again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _open_stream(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)


def _stream_name(stream: TextIO) -> str:
    return _NAMES.get(stream.fileno(), stream.name)
