"""Signals raise one exception, or end the process if that is not possible."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from ltsp.cli import process
process.install_handlers()

class Doomed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

def twice():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        print("went on")

try:
    {act}
    print("went on")
except process.SignalReceived as ended:
    print("undone")
    sys.exit(ended.exit_status)
"""


def run(act):
    done = subprocess.run(
        [sys.executable, "-u", "-c", PROGRAM.format(act=act)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_and_is_the_exit_status(number):
    assert run(f"os.kill(os.getpid(), {int(number)}); time.sleep(5)") == (128 + number, "undone\n")


def test_a_signal_in_a_destructor_ends_the_process():
    """Exceptions are lost there, and so would be the signal."""
    assert run("Doomed()") == (128 + signal.SIGTERM, "")


def test_a_second_signal_ends_the_process_during_cleanup():
    assert run("twice()") == (128 + signal.SIGTERM, "")


def test_other_exceptions_in_destructors_are_reported_as_usual():
    program = "from ltsp.cli import process\nprocess.install_handlers()\nclass A:\n  def __del__(self): 1/0\nA()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in done.stderr
