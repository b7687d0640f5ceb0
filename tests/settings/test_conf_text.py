"""The grammar of ltsp.conf, compared with dash where both must agree."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltsp.errors import ConfError
from ltsp.host.identity import Identity
from ltsp.settings.conf import parse_conf
from ltsp.settings.conf_text import Assignment, ShellCode, Variable
from ltsp.settings.conf_values import evaluate_settings


def only(text):
    (section,) = parse_conf(text.encode("utf-8", "surrogateescape"), "conf").sections
    return section.statements


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=", ()),
        ("A=b", ("b",)),
        ("A='b c'", ("b c",)),
        ('A="b c"', ("b c",)),
        ("A=b'c'\"d\"e", ("bcde",)),
        ("A=''", ()),
        ("A=b#c", ("b#c",)),
        ("A=b # c", ("b",)),
        ("A=#b", ("#b",)),
        ("A=b;", ("b",)),
        ("A=b\\ c", ("b c",)),
        ("A=b\\\nc", ("bc",)),
        ('A="b\\\nc"', ("bc",)),
        ("A='b\\\nc'", ("b\\\nc",)),
        ('A="b\nc"', ("b\nc",)),
        ('A="\\a\\$\\"\\`\\\\"', ('\\a$"`\\',)),
        ("A=\\$b\\'", ("$b'",)),
        ("A=b\\", ("b\\",)),
        ("A=$", ("$",)),
        ('A="5$"', ("5$",)),
        ("A=$B", (Variable("B"),)),
        ("A=${B}c", (Variable("B"), "c")),
        ('A="x${B}$C."', ("x", Variable("B"), Variable("C"), ".")),
        ("A='$B'", ("$B",)),
        ("A=*.[ab]?", ("*.[ab]?",)),
        ("A={b,c}", ("{b,c}",)),
        ("A=b~c", ("b~c",)),
        ('A="~"', ("~",)),
        ("A=b=c", ("b=c",)),
        ("A=\udcff", ("\udcff",)),
        ("  A=b", ("b",)),
        ("A=b\r\n", ("b",)),
    ],
)
def test_a_value_is_what_a_shell_would_read(text, value):
    (statement,) = only(text)
    assert isinstance(statement, Assignment)
    assert (statement.key, statement.parts, statement.line) == ("A", value, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A=$(id)", "command substitution is not supported"),
        ('A="$(id)"', "command substitution is not supported"),
        ("A=`id`", "command substitution is not supported"),
        ('A="`id`"', "command substitution is not supported"),
        ("A=$((1+1))", "arithmetic is not supported"),
        ("A=${B:-c}", "only $NAME and ${NAME} are supported for variables"),
        ('A="${B%c}"', "only $NAME and ${NAME} are supported for variables"),
        ("A=$1", "a literal $ needs a backslash or single quotes"),
        ("A=$'b'", "a literal $ needs a backslash or single quotes"),
        ('A="$$"', "a literal $ needs a backslash or single quotes"),
        ("A=$\\\nB", "a literal $ needs a backslash or single quotes"),
        ("A=$B\\\nC", "a variable name on two lines is not supported; write ${NAME} on one line"),
        ("A=b c", "a value with spaces needs quotes"),
        ("A=b|c", "| needs quotes"),
        ("A=b&", "& needs quotes"),
        ("A=<b", "< needs quotes"),
        ("A=(b c)", "( needs quotes"),
        ("A=~/b", "~ is not expanded; write the full path, or quote it"),
        ("A=b:~/c", "~ is not expanded; write the full path, or quote it"),
        ("A=\\\n~/c", "~ is not expanded; write the full path, or quote it"),
        ("A = b", "remove the space before ="),
        ("A =b", "remove the space before ="),
        ("rm -rf /", "not an assignment KEY=value"),
        ("9A=b", "not an assignment KEY=value"),
        ("Ä=b", "not an assignment KEY=value"),
        ("[ -f x ] && id", "not an assignment KEY=value"),
        ("[[ -f x ]]", "not an assignment KEY=value"),
        ("A=b $(id)", "a value with spaces needs quotes"),
    ],
)
def test_text_that_a_shell_would_run_is_code(text, reason):
    key = "A" if text.startswith("A=") else ""
    assert only(text) == (ShellCode(reason, 1, key),)


def test_code_belongs_to_the_key_of_its_value():
    assert [each.key for each in only("A=1 B=$(id) C=3\nrm x")] == ["B", ""]


def test_assignments_on_one_line_are_separate():
    assert [(each.key, each.line) for each in only("A=1 B='2\n3' C=4; D=5 \\\n E=6")] == [
        ("A", 1),
        ("B", 1),
        ("C", 2),
        ("D", 2),
        ("E", 3),
    ]


def test_code_that_spans_lines_is_skipped_as_one():
    text = "sed 's|a|\nb|' \"c\\\"\nd\" # don't\nA=b\ncat <<EOF\ndon't\nEOF\nB=c\n"
    statements = only(text)
    assert [each.key for each in statements if isinstance(each, Assignment)] == ["A", "B"]
    assert [each.line for each in statements if isinstance(each, ShellCode)] == [1, 5, 6, 7]


def test_sections_contain_the_lines_after_their_names():
    conf = parse_conf(
        b"A=1\n[server] # about\nB=2\n  [b8:27:eb:*|dc:a6:32:*]\nC=3\n[server]\n[pc[0-9]]\nD='\n[x]\n'\n", "conf"
    )
    assert [(section.name, section.line, len(section.statements)) for section in conf.sections] == [
        ("", 1, 1),
        ("server", 2, 1),
        ("b8:27:eb:*|dc:a6:32:*", 4, 1),
        ("server", 6, 0),
        ("pc[0-9]", 7, 1),
    ]
    assert conf.sections[2].patterns == ("b8:27:eb:*", "dc:a6:32:*")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"A=1\nB='x\n", "conf:2: unclosed quote"),
        (b'A="x', "conf:1: unclosed quote"),
        (b"[a b]\n", "conf:1: write a section as [NAME], without spaces or quotes, on a line of its own"),
        (b"[a] A=b\n", "conf:1: write a section as [NAME], without spaces or quotes, on a line of its own"),
        (b"[$(id)]\n", "conf:1: write a section as [NAME], without spaces or quotes, on a line of its own"),
        (b"[]\n", "conf:1: write a section as [NAME], without spaces or quotes, on a line of its own"),
        (b"A=1\n\0", "conf:2: the file contains a NUL byte"),
        (b"\xff\xfeA\0", "conf:1: the file is in UTF-16"),
    ],
)
def test_invalid_text_is_refused_with_its_line(raw, message):
    with pytest.raises(ConfError) as caught:
        parse_conf(raw, "conf")
    assert caught.value.message == message


def test_all_faults_are_reported_at_once():
    with pytest.raises(
        ConfError, match=r"^conf:1: write a section .*; conf:2: write a section .*; conf:3: unclosed quote"
    ):
        parse_conf(b"[a b]\n[c\nA='", "conf")


def test_a_byte_order_mark_and_windows_line_ends_are_ignored():
    (section,) = parse_conf(b"\xef\xbb\xbfA=1\r\nB='x\r\ny'\r\n", "conf").sections
    assert [(each.key, each.parts, each.line) for each in section.statements] == [("A", ("1",), 1), ("B", ("x\ny",), 2)]


PIECES = st.sampled_from(
    [
        *"ab \t#'\"\\$*?[]{}!%^,.:-=@/",
        "\n",
        "\\\n",
        "\\$",
        '\\"',
        "$K",
        "${K}",
        "$K1",
        "é",
        "don't",
    ]
)


def shell_value(raw: bytes) -> str | None:
    """The value that dash assigns; None if the text is anything but an assignment."""
    done = subprocess.run(
        ["/bin/dash", "-c", raw.decode() + "\nprintf '%s.' \"$A\""],
        capture_output=True,
        check=False,
        env={"PATH": "/nonexistent"},
        cwd="/proc",
    )
    return None if done.returncode or done.stderr else done.stdout.decode()[:-1]


@pytest.mark.oracle
@given(st.lists(PIECES, max_size=8).map("".join))
@settings(max_examples=400, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
def test_values_are_those_of_dash(word):
    """Each accepted value is the same in dash; nothing else is accepted silently."""
    text = f"K='k k'\nA={word}\n"
    try:
        values = evaluate_settings(parse_conf(text.encode(), "conf"), Identity(), "image")
    except ConfError:
        return
    if set(values) == {"A", "K"} and not values["A"].fault:
        assert shell_value(text.encode()) == values["A"].value


@pytest.mark.oracle
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30))
@settings(max_examples=200, deadline=None, print_blob=True)
def test_any_text_survives_single_quotes(text):
    quoted = "'" + text.replace("'", "'\\''") + "'"
    (statement,) = only(f"A={quoted}")
    assert "".join(statement.parts) == text
    assert shell_value(f"A={quoted}".encode()) == text


@given(st.binary(max_size=200))
@settings(print_blob=True)
def test_any_bytes_are_accepted_or_refused(raw):
    try:
        conf = parse_conf(raw, "conf")
    except ConfError as error:
        assert error.message.startswith("conf:")  # noqa: PT017 either outcome is right
        return
    last = raw.count(b"\n") + 1
    assert all(1 <= each.line <= last for section in conf.sections for each in section.statements)


@given(st.text("[]|a*='\"\\$`(){}#; \n\t~", max_size=60))
@settings(max_examples=500, print_blob=True)
def test_any_punctuation_is_accepted_or_refused(text):
    try:
        parse_conf(text.encode(), "conf")
    except ConfError as error:
        assert error.message  # noqa: PT017 either outcome is right


def test_parsing_time_is_proportional_to_the_size():
    raw = b"KEY_%d='a value'\n" * 20_000
    assert len(parse_conf(raw, "conf").sections[0].statements) == 20_000
