"""What nobody foresaw becomes a line that says where to look."""

from __future__ import annotations

import errno

import pytest

from ltsp.apps.unforeseen import TRACEBACK, told
from ltsp.errors import LtspError, UsageError


def fail(error):
    raise error


def raised(error):
    with pytest.raises(type(error)) as caught:
        fail(error)
    return caught.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "Input/output error", "/srv/a\nb"), "/srv/a\\nb: Input/output error: look into the kernel"),
        (OSError(errno.EIO, "Input/output error", b"/srv/\xff"), "/srv/\\xff: Input/output error"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError("cannot seek"), "cannot seek"),
        (OSError(), "OSError"),
        (MemoryError(), "out of memory: "),
        (ValueError("a\x1b[31m"), "a fault of this program, ValueError: a\\x1b[31m, in test_unforeseen.py line "),
        (RecursionError(), "a fault of this program, RecursionError, in test_unforeseen.py line "),
    ],
)
def test_it_is_one_line_that_names_what_there_is_to_name(error, line):
    said = str(told(raised(error)))
    assert said.startswith(line)
    assert said.isprintable()


def test_an_error_for_people_is_left_as_it_is():
    error = UsageError("no", "yes")
    assert told(error) is error


def test_a_fault_of_ours_shows_its_traceback_on_demand(monkeypatch, capsys):
    assert TRACEBACK in told(raised(KeyError("x"))).hint
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(TRACEBACK, "1")
    assert isinstance(told(raised(KeyError("x"))), LtspError)
    assert "Traceback" in capsys.readouterr().err
