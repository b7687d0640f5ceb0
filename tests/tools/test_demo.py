"""`make demo` reports any failure in one line."""

from __future__ import annotations

import subprocess

import pytest

from tools import demo


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            subprocess.CalledProcessError(7, ["ltsp", "image", "a b"]),
            "demo: `ltsp image 'a b'` failed with exit status 7; see above",
        ),
        (FileNotFoundError(2, "No such file or directory", "unsquashfs"), "demo: [Errno 2] No such file or directory"),
        (KeyboardInterrupt(), "demo: interrupted"),
    ],
)
def test_a_failure_is_one_line(monkeypatch, error, line):
    def fail():
        raise error

    monkeypatch.setattr(demo, "demonstrate", fail)
    with pytest.raises(SystemExit) as end:
        demo.main()
    assert str(end.value.code).startswith(line)
    assert "\n" not in str(end.value.code)
