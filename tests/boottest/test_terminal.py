from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ltsp.boottest.terminal import Terminal


def lines(data):
    terminal = Terminal()
    return [*terminal.feed(data), terminal.line]


def test_lines_end_with_their_newline_and_the_last_one_is_there_too():
    assert lines(b"one\r\ntwo\nlogin: ") == ["one", "two", "login:"]


def test_colours_titles_and_charsets_are_dropped():
    assert lines(b"\x1b[0;1;31mred\x1b[0m \x1b]0;title\x07a\x1b(Bb\x1b]2;x\x1b\\c\x1b7d") == ["red abcd"]


def test_moving_on_the_screen_starts_a_line():
    assert lines(b"one\x1b[2;1Htwo\x1b[2J\x1b[01;01Hthree") == ["one", "two", "three"]


def test_overwritten_text_is_not_kept():
    assert lines(b"fetching 10 %\rfetching 20 %\r\nPress\b \b\b \bX") == ["fetching 20 %", "PreX"]


def test_control_characters_are_escaped():
    assert lines("a\x9bb\u202ec".encode() + b"\xff\x00\x07d") == [r"a\x9bb\u202ec\xffd"]


def test_an_escape_without_end_swallows_no_line():
    assert lines(b"\x1b]0;" + b"x" * 300 + b"\nnext\n")[-2:] == ["next", ""]
    assert lines(b"\x1b]0;title\nnext\n")[-2:] == ["next", ""]


def test_a_line_without_end_is_not_kept_whole():
    assert len(lines(b"x" * (1 << 20))[0]) == 1 << 16


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\x1b[2", b";1H", b"\x1b]", b"\r", b"\n", b"\x1b"])))
def test_the_pieces_in_which_bytes_arrive_do_not_matter(pieces):
    whole, parts = Terminal(), Terminal()
    expected = list(whole.feed(b"".join(pieces)))
    assert [line for piece in pieces for line in parts.feed(piece)] == expected
    assert parts.line == whole.line


@given(st.binary())
def test_lines_are_safe_to_print(data):
    assert all(line.isprintable() for line in lines(data))
