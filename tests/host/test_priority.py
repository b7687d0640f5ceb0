from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltsp.errors import UsageError
from ltsp.host import priority

PROGRAM = """
import os, sys
sys.path.insert(0, {path!r})
from ltsp.host import priority
print("start", os.getpid(), flush=True)
priority.lower({prefix!r})
print("going on", os.getpid(), os.nice(0), [name for name in os.environ if "PRIORITY" in name], sys.argv[1:])
"""


def run(tmp_path, prefix, *arguments) -> list[list[str]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(path=str(Path(priority.__file__).parents[2]), prefix=prefix))
    done = subprocess.run([sys.executable, program, *arguments], check=True, capture_output=True, text=True)
    return [line.split(maxsplit=3) for line in done.stdout.splitlines()]


def test_the_program_starts_again_once_in_its_own_place_with_its_own_arguments(tmp_path):
    (first, second, after) = run(tmp_path, ("nice", "-n", "3"), "a b", "", "--c=\udcff")
    assert first == second
    assert after[2] == second[1]
    assert after[3] == f"{os.nice(0) + 3} [] {['a b', '', '--c=' + chr(0xDCFF)]!r}"


def test_an_empty_prefix_changes_nothing(tmp_path):
    (_, after) = run(tmp_path, ())
    assert after[3] == f"{os.nice(0)} [] []"


def test_the_default_lowers_the_priority(tmp_path):
    assert run(tmp_path, None)[-1][3] == f"{min(19, os.nice(0) + 10)} [] []"


def test_where_systemd_runs_the_default_is_a_scope(tmp_path, monkeypatch):
    (tmp_path / "systemd-run").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert next(priority.defaults(systemd=True))[:2] == ["systemd-run", "--scope"]
    assert list(priority.defaults(systemd=False)) == []


@pytest.mark.parametrize(
    ("programs", "lowered"),
    [
        ({"ionice": 'echo "ionice: invalid option -- t" >&2; exit 1', "nice": 'exec /usr/bin/nice -n 7 "$@"'}, 7),
        ({"ionice": "exit 1", "nice": "exit 1"}, 0),
        ({"nice": "exec /usr/bin/nice -n 7 /bin/false"}, 0),
    ],
)
def test_a_default_that_does_not_work_here_is_passed_over(tmp_path, monkeypatch, programs, lowered):
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(tmp_path, None)[-1][3] == f"{os.nice(0) + lowered} [] []"


@pytest.mark.parametrize("prefix", [("no-such-program", "-x"), ("",), ("/etc/passwd",)])
def test_a_prefix_that_is_no_command_is_one_clear_error(prefix):
    with pytest.raises(UsageError, match="--ionice"):
        priority.lower(prefix)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (("false",), "status 1 and ran nothing"),
        (("true",), "status 0 and ran nothing"),
        (("echo",), "status 0 and ran nothing"),
        (("nice", "-n", "much"), "much"),
        (("sh", "-c", "kill -9 $$"), "signal 9 ended it"),
        (("yes",), "ran nothing"),
    ],
)
def test_a_prefix_that_does_not_run_what_follows_it_is_one_clear_error(prefix, reason):
    """Else it would take our place, and end in silence, with status 0 even."""
    with pytest.raises(UsageError, match=f"of --ionice: .*{reason}"):
        priority.lower(prefix)


def test_it_needs_no_module_that_takes_long_to_import():
    code = f"import sys; sys.path.insert(0, {str(Path(priority.__file__).parents[2])!r}); import ltsp.host.priority"
    said = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not set(said) & {"re", "typing", "dataclasses", "enum", "shutil", "subprocess", "rich"}
