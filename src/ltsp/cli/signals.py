"""Signals that end the program: the work is undone on the way up, and the exit status says which one it was."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALLED = 128
"""Exit status of a program that a signal ended, less the signal's number. POSIX.1-2017, sh, 2.8.2"""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = b"\x1b[?25h"
"""A bar hides it. console_codes(4), DECTCEM"""


class SignalReceived(BaseException):
    """A signal came, or would have: Python ignores SIGPIPE. Nobody catches it but `main`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = _SIGNALLED + number


def install_handlers() -> None:
    """From now on a signal raises SignalReceived, and the one after it ends the program on the spot.

    That leaves no more behind than SIGKILL does: what has a name is whole, and all else dies with the process. Whoever
    started us may have had a signal ignored, as nohup(1) does, and then it is.
    """
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_signal)
    sys.unraisablehook = _handle_unraisable


def remove_handlers() -> None:
    """All is done but the interpreter's own end, in which there is nothing left to undo."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _raise_signal(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _exit_now)
    raise SignalReceived(number)


def _exit_now(number: int, _frame: FrameType | None) -> NoReturn:
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(_SIGNALLED + number)


def _handle_unraisable(lost: sys.UnraisableHookArgs) -> None:
    """An exception in a destructor leads nowhere, and a signal may come in one."""
    if isinstance(lost.exc_value, SignalReceived):
        _exit_now(lost.exc_value.exit_status - _SIGNALLED, None)
    sys.__unraisablehook__(lost)
