from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest

from corpus.hostile_names import NASTY
from ltsp import errors
from ltsp.cli.command_line import parse_command_line
from ltsp.cli.console import ConsoleOptions, JsonReport, TextReport, make_report, open_report
from ltsp.cli.invocation import Invocation
from ltsp.cli.progress import Counter, NoProgress, ProgressLines, format_duration
from ltsp.cli.screen import Screen, format_table
from ltsp.tree.name import printable

PACKAGES = str(Path(errors.__file__).parents[1])
NOBODY = {"TERM": "dumb"}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@dataclass(slots=True)
class Time:
    """A clock that the test advances."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Pair:
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def report(self, environ=NOBODY, **wishes):
        return make_report(ConsoleOptions(**wishes), self.out, self.err, environ)

    def text(self) -> tuple[str, str]:
        return self.out.getvalue(), self.err.getvalue()


def everything(to, text: str) -> None:
    """Report it with every method."""
    with to.step(text, 10) as step:
        step.advance(10)
        to.note(text)
        to.warn(text)
    to.say(text)
    to.table([text, "b"], [[text, "c"], ["d", text]])
    to.failure(errors.LtspError(text, text))


def test_results_go_to_standard_output_and_messages_to_standard_error():
    pair = Pair()
    everything(pair.report(), "text")
    out, err = pair.text()
    assert out.splitlines() == ["text", "text  b", "text  c", "d     text"]
    assert err.splitlines()[:2] == ["text", "warning: text"]
    assert err.splitlines()[2].startswith("text: 10 bytes in ")
    assert err.splitlines()[3:] == ["ltsp: text: text"]


def test_quiet_keeps_warnings_and_failures():
    pair = Pair()
    everything(pair.report(quiet=True), "text")
    assert pair.text() == ("", "warning: text\nltsp: text: text\n")


def test_no_progress_keeps_the_rest():
    pair = Pair()
    everything(pair.report(progress="none"), "text")
    assert pair.text()[1] == "text\nwarning: text\nltsp: text: text\n"


def test_with_json_only_the_result_is_printed():
    pair = Pair()
    to = pair.report(json=True)
    everything(to, "text")
    to.result({"a": [1, "é\udcff"]})
    assert json.loads(pair.out.getvalue()) == {"a": [1, "é\udcff"]}
    assert "d     text" in pair.err.getvalue()
    plain = Pair()
    plain.report().result({"a": 1})
    assert plain.text() == ("", "")


@pytest.mark.parametrize(
    ("progress", "encoding"),
    [("plain", "utf-8"), ("plain", "ascii"), ("plain", "latin-1"), ("bar", "utf-8"), ("json", "ascii")],
)
def test_no_name_prints_a_control_character_or_breaks_a_line(progress, encoding):
    """R12: whether names went through `printable`, or that was forgotten."""
    assert len(NASTY) >= 300
    raw: dict[str, list[bytes]] = {"out": [], "err": []}

    def seen(text: str) -> None:
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", newline="") for name in raw}
        everything(make_report(ConsoleOptions(progress), streams["out"], streams["err"], NOBODY), text)
        for name, stream in streams.items():
            stream.flush()
            raw[name].append(stream.buffer.getvalue())

    seen("name")
    usual = {name: found.pop().count(b"\n") for name, found in raw.items()}
    for name in NASTY:
        seen(name)
        seen(printable(name))
    for name, found in raw.items():
        assert len(found) == 2 * len(NASTY)
        for data in found:
            if progress == "bar" and name == "err":
                data = without_bar(data)  # noqa: PLW2901 -- what rich itself sends to draw
            text = data.decode(encoding)
            assert text.count("\n") == usual[name]
            assert all(character.isprintable() for character in text.replace("\n", ""))


def without_bar(data: bytes) -> bytes:
    """The lines that stay on a terminal: without the sequences of rich, and the line that it draws over."""
    for drawn in (rb"\x1b\[\?25[lh]", rb"\x1b\[[0-9;]*[mKA]", rb"\r"):
        data = re.sub(drawn, b"", data)
    return data


def test_a_name_that_was_made_printable_is_not_escaped_again():
    pair = Pair()
    pair.report().say(printable("a\\b\n"))
    assert pair.out.getvalue() == "a\\\\b\\n\n"


def test_markup_is_text():
    err = Terminal()
    to = make_report(ConsoleOptions("bar"), io.StringIO(), err, {"TERM": "xterm"})
    with to.step("[red]a[/red] {task.id}", 5) as step:
        step.advance(5)
    assert "[red]a[/red] {task.id}" in err.getvalue()


@pytest.mark.parametrize(
    ("environ", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), (NOBODY, False)]
)
def test_colour_is_used_on_terminals_unless_disabled(environ, coloured):
    err = Terminal()
    to = make_report(ConsoleOptions("plain"), io.StringIO(), err, environ)
    to.warn("text")
    assert ("\x1b[33m" in err.getvalue()) == coloured
    plain = Pair()
    plain.report(environ={"TERM": "xterm"}).warn("text")
    assert plain.text() == ("", "warning: text\n")


def test_no_colour_also_applies_to_the_bar():
    err = Terminal()
    to = make_report(ConsoleOptions(), io.StringIO(), err, {"TERM": "xterm", "NO_COLOR": "1"})
    with to.step("step", 5) as step:
        step.advance(5)
    assert "\x1b[3" not in err.getvalue()


def test_a_long_step_prints_at_most_a_line_every_few_seconds():
    clock = Time()
    err = io.StringIO()
    to = TextReport(Screen(io.StringIO(), err), ProgressLines(Screen(io.StringIO(), err), clock))
    with to.step("writing", 100 << 20) as step:
        for _ in range(100):
            clock.now += 0.11
            step.advance(1 << 20)
    assert err.getvalue().splitlines() == [
        "writing: 46 %, 46 MiB of 100 MiB, 9.1 MiB/s, 5.9 s left",
        "writing: 92 %, 92 MiB of 100 MiB, 9.1 MiB/s, 0.9 s left",
        "writing: 100 MiB in 11 s",
    ]


def test_a_step_of_unknown_size_shows_the_bytes_done():
    clock = Time()
    counter = Counter(None, lambda _counter: None, 1, clock)
    clock.now = 2
    counter.advance(4 << 20)
    assert counter.state() == "4.0 MiB, 2.0 MiB/s"
    assert counter.percent is None


def test_a_failed_step_is_not_reported_as_done():
    pair = Pair()
    with pytest.raises(KeyboardInterrupt), pair.report().step("writing", 5):
        raise KeyboardInterrupt
    assert pair.text() == ("", "")


def test_threads_may_advance_a_step():
    with NoProgress().step("step", None) as step:
        threads = [threading.Thread(target=lambda: [step.advance(1) for _ in range(1000)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert step.done == 8000


def test_percentages_are_increasing_whole_numbers():
    pair = Pair()
    with pair.report(progress="percentage").step("writing", 1000) as step:
        for _ in range(500):
            step.advance(2)
    assert pair.out.getvalue().split() == [str(number) for number in range(101)]
    assert pair.err.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    {0: "0.0 s", 9.94: "9.9 s", 9.95: "10 s", 59.4: "59 s", 59.6: "1 min 0 s", 3599.6: "1 h 0 min"}.items(),
)
def test_durations_are_short(seconds, text):
    assert format_duration(seconds) == text


def test_json_is_one_object_a_line_as_docs_json_says():
    out = io.StringIO()
    clock = Time()
    to = JsonReport(out, clock=clock)
    with to.step("writing", 20) as step:
        clock.now = 1.5
        step.advance(10)
        to.warn("text\n")
    with pytest.raises(KeyboardInterrupt), to.step("publishing"):
        raise KeyboardInterrupt
    to.note("note")
    to.say("line")
    to.table(["a"], [["b"]])
    to.failure(errors.UsageError("cause", "remedy"))
    to.result({"images": []})
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"event": "step", "step": "writing", "total": 20},
        {"event": "progress", "step": "writing", "done": 10, "total": 20, "seconds": 1.5},
        {"event": "warning", "text": "text\n"},
        {"event": "done", "step": "writing", "ok": True, "done": 10, "seconds": 1.5},
        {"event": "step", "step": "publishing", "total": None},
        {"event": "done", "step": "publishing", "ok": False, "done": 0, "seconds": 0.0},
        {"event": "note", "text": "note"},
        {"event": "text", "text": "line"},
        {"event": "table", "headings": ["a"], "rows": [["b"]]},
        {"event": "error", "text": "cause", "hint": "remedy", "status": 2},
        {"event": "result", "result": {"images": []}},
    ]


def test_quiet_json_has_warnings_errors_and_the_result():
    out = io.StringIO()
    to = JsonReport(out, quiet=True)
    everything(to, "text")
    to.result({})
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["warning", "error", "result"]


def test_every_event_is_in_the_docs():
    docs = (Path(__file__).parents[2] / "docs/json.md").read_text()
    for event in ("step", "progress", "done", "note", "warning", "text", "table", "error", "result"):
        assert f"`{event}`" in docs


def test_columns_are_as_wide_as_a_terminal_shows_them():
    assert format_table(["漢字", "b"], [["a", "b"], ["e\u0301", "b"]]) == ["漢字  b", "a     b", "e\u0301     b"]


@pytest.fixture
def asked(tmp_path):
    """What a command line asks for, where ltsp.conf says nothing."""
    conf = tmp_path / "ltsp.conf"
    conf.touch()

    def understood(*words: str) -> Invocation:
        run = parse_command_line(words, {}, conf_path=str(conf))
        assert isinstance(run, Invocation)
        return run

    return understood


@pytest.mark.parametrize(
    ("words", "wishes"),
    {
        ("image",): ConsoleOptions(),
        ("image", "--progress=json"): ConsoleOptions("json"),
        ("image", "-q", "--json"): ConsoleOptions("auto", quiet=True, json=True),
        ("image", "-m", "-quiet"): ConsoleOptions("auto", quiet=True),
        ("image", "-m", "-no-progress"): ConsoleOptions("none"),
        ("image", "-m", "-percentage"): ConsoleOptions("percentage"),
        ("image", "-m", "-percentage", "--progress=bar"): ConsoleOptions("bar"),
        ("image", "-m", "-e -quiet"): ConsoleOptions(),
        ("info",): ConsoleOptions(),
        ("versions", "--json"): ConsoleOptions(json=True),
    }.items(),
)
def test_options_and_mksquashfs_parameters_select_the_output(asked, words, wishes):
    assert ConsoleOptions.of(asked(*words)) == wishes


def test_the_console_is_on_standard_output_and_error(asked, capsys):
    with open_report(asked("image", "lab"), NOBODY) as to:
        everything(to, "text")
    captured = capsys.readouterr()
    assert captured.out.startswith("text\n")
    assert captured.err.startswith("text\n")


DEMO = f"""
import sys, time
sys.path.insert(0, {PACKAGES!r})
from ltsp.cli.console import ConsoleOptions, make_report
import os
to = make_report(ConsoleOptions(), sys.stdout, sys.stderr, os.environ)
with to.step("writing the image", 100 << 20) as step:
    for _ in range(30):
        time.sleep(0.02)
        step.advance(100 << 20 >> 5)
    to.warn("in between")
    while sys.argv[1:]:
        time.sleep(0.02)
        step.advance(1)
print("rich" in sys.modules)
"""


def test_a_terminal_shows_a_bar_until_the_step_is_done():
    child = pexpect.spawn(
        sys.executable, ["-c", DEMO], env={**os.environ, "TERM": "xterm"}, dimensions=(24, 100), encoding="utf-8"
    )
    child.expect(r"writing the image.*━.* \d+ %, [\d.]+ MiB of 100 MiB")
    child.expect("warning: ")
    child.expect("in between")
    child.expect(r"writing the image: 94 MiB in 0\.\d s")
    child.expect("True")
    child.expect(pexpect.EOF)
    shown = child.before
    assert child.wait() == 0
    assert "\x1b[?25l" not in shown


def test_ctrl_c_shows_the_cursor_again():
    child = pexpect.spawn(sys.executable, ["-c", DEMO, "on"], env={**os.environ, "TERM": "xterm"})
    child.expect("in between")
    child.expect_exact("\x1b[?25l")
    child.sendintr()
    child.expect_exact("\x1b[?25h")
    child.expect("KeyboardInterrupt")
    child.expect(pexpect.EOF)
    child.close()
    assert signal.SIGINT in (child.signalstatus, (child.exitstatus or 0) - 128)


def test_rich_is_imported_only_for_a_bar():
    done = subprocess.run(
        [sys.executable, "-c", DEMO], capture_output=True, text=True, check=True, env={**os.environ, "TERM": "xterm"}
    )
    assert done.stdout == "False\n"
    assert "\x1b" not in done.stderr
