"""The process that runs `ltsp`: its standard streams, and the signals that end it.

When a signal ends it, the stack unwinds and cleans up, and the exit status shows the signal.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn, TextIO

from ltsp.errors import LtspError

_SIGNAL_STATUS_BASE = 128
"""Added to the number of the signal for the exit status. POSIX.1-2017, sh, 2.8.2"""
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"
"""Progress bars hide it. console_codes(4), DECTCEM"""


class SignalReceived(BaseException):
    """A signal was received (for SIGPIPE, EPIPE: Python ignores the signal). Only `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = _SIGNAL_STATUS_BASE + number


def install_handlers() -> None:
    """From now on, the first signal raises SignalReceived, and the second ends the program immediately.

    That is as safe as SIGKILL: files with names are complete, and all others vanish with the process. Signals that the
    parent process ignored, as nohup(1) does, stay ignored.
    """
    for number in _ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_signal)
    sys.unraisablehook = _handle_unraisable


def remove_handlers() -> None:
    """Restore the defaults before the interpreter exits: there is nothing left to clean up."""
    for number in _ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _raise_signal(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING_SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _exit_now)
    raise SignalReceived(number)


def _exit_now(number: int, _frame: FrameType | None) -> NoReturn:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(_SIGNAL_STATUS_BASE + number)


def _handle_unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Exit if SignalReceived was raised in a destructor, where Python would ignore it."""
    if isinstance(lost.exc_value, SignalReceived):
        _exit_now(lost.exc_value.exit_status - _SIGNAL_STATUS_BASE, None)
    sys.__unraisablehook__(lost)


_STREAM_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}


def open_missing_streams() -> None:
    """Open /dev/null for each stream that was closed when the program started.

    Otherwise the next file to be opened, perhaps an image, gets its number, and output goes into it.
    """
    for number in _STREAM_NAMES:
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
    return _STREAM_NAMES.get(stream.fileno(), stream.name)
