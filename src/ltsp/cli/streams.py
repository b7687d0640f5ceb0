"""Standard streams that are there and take what is written to them, or say that they do not."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

from ltsp.cli.signals import SignalReceived
from ltsp.errors import LtspError

_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}


def open_missing_streams() -> None:
    """Put /dev/null where a stream was closed before we were started.

    Else the next file that is opened gets its number: an image may be, and what is printed then goes into it.
    """
    for number in _NAMES:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or _open_stream(1)
    sys.stderr = sys.stderr or _open_stream(2)


def write_text(stream: TextIO, text: str) -> None:
    """Print at once; what the stream's encoding lacks is escaped.

    Raises LtspError where the stream takes no more, SignalReceived where nobody reads it.
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
    """Let go of what a stream did not take: Python would complain of it once more at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _open_stream(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)


def _stream_name(stream: TextIO) -> str:
    return _NAMES.get(stream.fileno(), stream.name)
