from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltsp.errors import LtspError
from ltsp.host import command


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


def test_a_program_reads_an_empty_standard_input():
    assert command.run(["cat"]).stdout == b""


def test_the_locale_is_the_same_everywhere(monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    said = command.run(["sh", "-c", 'echo "$LANG/$LC_ALL/$LANGUAGE"']).stdout
    assert said == b"C.UTF-8//\n"


def test_the_administrators_programs_are_found_with_the_path_of_su_and_cron(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert command.run(["sh", "-c", "echo $PATH"]).stdout.startswith(b"/nowhere:/usr/local/sbin:")
    assert command.find_program("sh") in {"/bin/sh", "/usr/bin/sh"}


def test_a_failure_names_the_program_its_status_and_its_last_lines():
    with pytest.raises(LtspError, match=r"^sh failed with exit status 7: one \| two$"):
        command.run(["sh", "-c", "echo one >&2; echo >&2; echo two >&2; exit 7"])


def test_an_expected_status_is_not_a_failure():
    assert command.run(["sh", "-c", "exit 7"], accepted_statuses=(0, 7)).status == 7


def test_a_failure_by_signal_names_the_signal():
    with pytest.raises(LtspError, match=r"^sh was killed by SIGSEGV$"):
        command.run(["sh", "-c", "kill -SEGV $$"])


def test_what_a_program_prints_cannot_move_the_cursor():
    with pytest.raises(LtspError) as caught:
        command.run(["sh", "-c", r"printf 'a\033[2Jb\302\233c\377\n' >&2; exit 1"])
    assert str(caught.value).endswith(r": a\x1b[2Jb\x9bc\xff")


def test_a_missing_program_names_the_package_to_install():
    with pytest.raises(LtspError) as caught:
        command.run(["no-such-program"], package="no-such-package")
    assert caught.value.message == "no-such-program not found"
    assert caught.value.hint == "install the package no-such-package"


def test_names_that_are_not_utf8_reach_the_program_as_their_bytes():
    assert command.run(["printf", "%s", "a\udcff"]).stdout == b"a\xff"


def feed_for_ever(*arguments: str) -> None:
    with command.start_with_input(arguments) as running:
        while True:
            running.input.write(b"x" * 65536)


def test_a_fed_program_that_fails_says_why_and_not_broken_pipe():
    with pytest.raises(LtspError, match=r"^sh failed with exit status 3: no room$"):
        feed_for_ever("sh", "-c", "echo no room >&2; exit 3")


def test_a_fed_program_ends_with_its_input(tmp_path):
    target = tmp_path / "copy"
    with command.start_with_input(["dd", f"of={target}", "status=none"]) as running:
        running.input.write(b"fed")
        running.finish()
    assert target.read_bytes() == b"fed"


def test_leaving_the_block_kills_the_program_and_what_it_started(tmp_path):
    """Both ignore SIGTERM, as a program that hangs would."""
    note = tmp_path / "pids"
    inner = f"(trap '' TERM; sleep 60 & echo $! >> {note}; wait)"
    with command.start_with_input(["sh", "-c", f"trap '' TERM; {inner} & echo $$ >> {note}; cat > /dev/null; wait"]):
        while not note.exists() or len(note.read_text().split()) < 2:
            time.sleep(0.01)
    assert all(gone(int(pid)) for pid in note.read_text().split())


def test_a_program_dies_with_us_even_where_we_are_killed(tmp_path):
    note = tmp_path / "pid"
    code = (
        "from ltsp.host import command\n"
        f"with command.start_with_input(['sh', '-c', 'echo $$ > {note}; exec sleep 60']) as running:\n"
        "    running.finish()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(command.__file__).parents[2])}
    ours = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while not note.exists() or not note.read_text():
        time.sleep(0.01)
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    assert gone(int(note.read_text()))


def test_lines_are_shown_as_they_come_and_the_last_one_needs_no_newline():
    lines: list[str] = []
    status = command.run_and_show(["sh", "-c", r"echo one; printf 'tw\033o\nthree'; exit 4"], lines.append)
    assert (status, lines) == (4, ["one", r"tw\x1bo", "three"])


def test_a_service_that_a_program_leaves_behind_does_not_hold_us_up():
    lines: list[str] = []
    began = time.monotonic()
    assert command.run_and_show(["sh", "-c", "sleep 3 & echo started"], lines.append) == 0
    assert lines == ["started"]
    assert time.monotonic() - began < 2


def test_a_program_that_closes_its_output_early_is_waited_for():
    assert command.run_and_show(["sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 5"], print) == 5


def test_a_server_runs_while_its_block_does():
    with command.start_in_background(["sh", "-c", "echo ready; exec sleep 60"]) as server:
        while server.output() != b"ready\n":
            assert server.status(0.01) is None
        pid = server._process.pid
        assert alive(pid)
    assert gone(pid)


def test_a_server_that_ends_by_itself_says_how():
    with command.start_in_background(["sh", "-c", "echo no room >&2; exit 3"]) as server:
        assert server.status(5) == 3
        assert server.output() == b"no room\n"
