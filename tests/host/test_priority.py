from __future__ import annotations

import os
import signal
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
priority.rerun_at_lower_priority({prefix!r})
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
    assert next(priority.default_prefixes(systemd=True))[:2] == ["systemd-run", "--scope"]
    assert list(priority.default_prefixes(systemd=False)) == []


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
def test_a_prefix_that_is_not_a_command_is_one_clear_error(prefix):
    with pytest.raises(UsageError, match="--ionice"):
        priority.rerun_at_lower_priority(prefix)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (("false",), "status 1 without running the program"),
        (("true",), "status 0 without running the program"),
        (("echo",), "status 0 without running the program"),
        (("nice", "-n", "much"), "much"),
        (("sh", "-c", "kill -9 $$"), "ended by signal 9"),
        (("env", "-i"), "does not pass on the environment"),
        (("yes",), "without running the program"),
    ],
)
def test_a_prefix_that_does_not_run_what_follows_it_is_one_clear_error(prefix, reason):
    """Else it would take our place, and end in silence, with status 0 even."""
    with pytest.raises(UsageError, match=f"from --ionice.: .*{reason}"):
        priority.rerun_at_lower_priority(prefix)


BESIDE = """
import os, signal, sys, time
sys.path.insert(0, {path!r})
from ltsp.errors import LtspError
from ltsp.host import priority
try:
    done = priority.rerun_at_lower_priority({prefix!r})
except LtspError as error:
    print("said", error)
    sys.exit(error.exit_status)
if done is not None:
    print("done", done)
    sys.exit(done)
print("building", flush=True)
{build}
"""


def beside(tmp_path, prefix, build):
    program = tmp_path / "program.py"
    program.write_text(BESIDE.format(path=str(Path(priority.__file__).parents[2]), prefix=prefix, build=build))
    done = subprocess.run([sys.executable, program], check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, [line for line in done.stdout.splitlines() if line != "building"]


END = "priority.report_exit_status({0}); sys.exit({0})"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize("status", [0, 1, 3, 143])
@pytest.mark.parametrize("prefix", [("timeout", "50"), ("sh", "-c", '"$@"; exit $?', "x")])
def test_a_prefix_that_keeps_running_ends_with_the_build(tmp_path, prefix, status):
    """The build has said why it failed: nothing is added."""
    assert beside(tmp_path, prefix, END.format(status)) == (status, [f"done {status}"])


@pytest.mark.parametrize(
    ("prefix", "build", "status", "said"),
    [
        (
            ("timeout", "1"),
            "time.sleep(50)",
            124,
            "'timeout 1' (from --ionice) ended with status 124, and the build",
        ),
        (("timeout", "-s", "KILL", "1"), "time.sleep(50)", 137, "ended by signal 9, and the build did not"),
        (("timeout", "50"), KILL, 137, ", and the build did not"),
        (
            ("sh", "-c", '"$@"; kill -TERM $$', "x"),
            END.format(0),
            143,
            "by signal 15, and the build ended",
        ),
        (("sh", "-c", '"$@"; exit 5', "x"), END.format(3), 5, "with status 5, and the build ended with status 3"),
        (("sh", "-c", '"$@"; exit 0', "x"), END.format(3), 1, "with status 0, and the build ended with status 3"),
        (("sh", "-c", '"$@"; exit 0', "x"), KILL, 1, "with status 0, and the build did not finish"),
    ],
)
def test_a_prefix_that_ends_otherwise_than_the_build_is_one_line(tmp_path, prefix, build, status, said):
    code, lines = beside(tmp_path, prefix, build)
    assert (code, len(lines)) == (status, 1)
    assert said in lines[0]
    assert 'to run without it, give --ionice=""' in lines[0]


def test_a_pipe_that_the_prefix_closed_is_not_written_to(tmp_path):
    """The number may be that of a file which the build opened."""
    prefix = ("sh", "-c", 'for fd in 3 4 5 6 7 8 9; do eval "exec $fd</dev/null"; done; "$@"; exit $?', "x")
    code, (line,) = beside(tmp_path, prefix, END.format(3))
    assert (code, "ended with status 3" in line) == (3, True)


@pytest.mark.parametrize("prefix", [("timeout", "50"), ("timeout", "--foreground", "50")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_us_reaches_the_build(tmp_path, prefix, number):
    build = (
        f"signal.signal({number:d}, lambda *_: (priority.report_exit_status(9), os._exit(9)))\n"
        "print('listening', flush=True)\ntime.sleep(50)"
    )
    program = tmp_path / "program.py"
    program.write_text(BESIDE.format(path=str(Path(priority.__file__).parents[2]), prefix=prefix, build=build))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        while running.stdout.readline() != "listening\n":
            pass
        running.send_signal(number)
        assert running.stdout.read() == "done 9\n"
        assert running.wait() == 9


def test_it_needs_no_module_that_takes_long_to_import():
    code = f"import sys; sys.path.insert(0, {str(Path(priority.__file__).parents[2])!r}); import ltsp.host.priority"
    said = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not set(said) & {"re", "typing", "dataclasses", "enum", "shutil", "subprocess", "rich"}
