"""Unexpected exceptions become one line that says where to look."""

from __future__ import annotations

import errno
import os

import pytest

from ltsp.errors import FormatError, LtspError, SourceError, UsageError
from ltsp.report.internal_error import TRACEBACK_VARIABLE, to_ltsp_error


def fail(error):
    raise error


def raised(error):
    with pytest.raises(type(error)) as caught:
        fail(error)
    return caught.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "Input/output error", "/srv/a\nb"), "/srv/a\\nb: Input/output error: check the kernel log"),
        (OSError(errno.EIO, "Input/output error", b"/srv/\xff"), "/srv/\\xff: Input/output error"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError("cannot seek"), "cannot seek"),
        (OSError(), "OSError"),
        (MemoryError(), "out of memory: "),
        (ValueError("a\x1b[31m"), "internal error: ValueError: a\\x1b[31m (test_internal_error.py line "),
        (RecursionError(), "internal error: RecursionError (test_internal_error.py line "),
    ],
)
def test_it_is_one_line_with_the_known_names(error, line):
    said = str(to_ltsp_error(raised(error)))
    assert said.startswith(line)
    assert said.isprintable()


def test_an_ltsp_error_is_unchanged():
    error = UsageError("no", "yes")
    assert to_ltsp_error(error) is error


def test_an_internal_error_shows_its_traceback_on_demand(monkeypatch, capsys):
    assert TRACEBACK_VARIABLE in to_ltsp_error(raised(KeyError("x"))).hint
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    assert isinstance(to_ltsp_error(raised(KeyError("x"))), LtspError)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "sysctl fs.file-max")])
@pytest.mark.parametrize("kind", [LtspError, SourceError, UsageError, FormatError])
def test_too_many_open_files_always_have_the_same_remedy(kind, number, remedy):
    error = to_ltsp_error(kind(f"cannot read /etc/x: {os.strerror(number)}", "run as root, or exclude it"))
    assert isinstance(error, kind)
    assert (error.message, remedy in error.hint, "root" in error.hint) == (
        f"cannot read /etc/x: {os.strerror(number)}",
        True,
        False,
    )
    assert remedy in str(to_ltsp_error(OSError(number, os.strerror(number), "/etc/x")))
    library = ImportError(f"_lzma.so: cannot open shared object file: {os.strerror(number)}")
    assert str(to_ltsp_error(library)).startswith(f"{library}: ")
    assert remedy in str(to_ltsp_error(library))


def test_a_removed_working_directory_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        os.getcwd()
    assert str(to_ltsp_error(caught.value)).startswith("the working directory has been removed: cd to another one")
