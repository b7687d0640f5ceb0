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
    assert priority.default(systemd=True)[:2] == ["systemd-run", "--scope"]
    assert priority.default(systemd=False) == []


@pytest.mark.parametrize("prefix", [("no-such-program", "-x"), ("",), ("/etc/passwd",)])
def test_a_prefix_that_is_no_command_is_one_clear_error(prefix):
    with pytest.raises(UsageError, match="--ionice"):
        priority.lower(prefix)


def test_it_needs_no_module_that_takes_long_to_import():
    code = f"import sys; sys.path.insert(0, {str(Path(priority.__file__).parents[2])!r}); import ltsp.host.priority"
    said = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not set(said) & {"re", "typing", "dataclasses", "enum", "shutil", "subprocess", "rich"}
