from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.ipxe_script import commands, expanded
from ltsp.boot.ipxe import (
    MAX_PARAMETERS_LENGTH,
    UnwritableText,
    check_parameters,
    check_word,
    check_words,
    format_title,
)
from ltsp.errors import ConfError

HOSTILE = [
    "; shell",
    "a && shell",
    "|| exit",
    "x # y",
    "${ltsp-server}",
    "a\nshell",
    "a\\",
    "\x1b[2J",
    "a\rb",
    "`x`",
    "{",
    "}",
]


def as_item(text):
    """The words that iPXE gets from a menu entry with this text."""
    return commands(f"item lab {text}")


@given(st.text() | st.text(alphabet=string.printable) | st.sampled_from(HOSTILE))
def test_no_title_breaks_out_of_its_line(text):
    shown = format_title(text)
    assert shown
    assert shown.isascii()
    assert shown.isprintable()
    assert as_item(shown) == [(";", ["item", "lab", *shown.split()])]
    assert expanded(shown, {}) == shown
    assert not shown.startswith("-")


@given(st.text() | st.text(alphabet=string.printable) | st.sampled_from(HOSTILE))
def test_a_text_becomes_a_list_of_words_or_is_refused(text):
    try:
        shown = check_words(text)
    except UnwritableText:
        return
    assert shown.split() == text.split()
    assert commands(f"set ltsp-parameters {shown}") == [(";", ["set", "ltsp-parameters", *text.split()])]
    assert expanded(shown, {"x": "y"}) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_kernel_parameters_that_would_break_out_are_refused_by_key_and_line(text):
    if text == "a\nshell":
        assert check_parameters(text, "KERNEL_PARAMETERS", "x") == "a shell"
        return
    with pytest.raises(ConfError) as refusal:
        check_parameters(text, "KERNEL_PARAMETERS", "/etc/ltsp/ltsp.conf:12")
    assert refusal.value.message.startswith("/etc/ltsp/ltsp.conf:12: KERNEL_PARAMETERS: ")
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_usual_kernel_parameters_stay_as_they_are():
    usual = 'nomodeset noapic console=tty0 console=ttyS0,115200n8 video=HDMI-A-1:1024x768@60 dyndbg="file x.c +p" a=-1'
    assert check_parameters(usual, "KERNEL_PARAMETERS", "x") == usual


def test_too_many_parameters_are_refused():
    with pytest.raises(ConfError, match="too long: 1025 characters; the limit is 1024"):
        check_parameters("a" * (MAX_PARAMETERS_LENGTH + 1), "KERNEL_PARAMETERS", "x")


def test_titles_keep_printable_text():
    assert format_title("Labor für Schüler, 2. Stock (neu)") == "Labor fur Schuler, 2. Stock (neu)"
    assert format_title("50% & more; ${x}") == "50% _ more_ __x_"
    assert format_title("") == "_"
    assert format_title("--key x") == "_--key x"


@pytest.mark.parametrize("text", ["", "a b", "a\tb", "$x"])
def test_a_word_is_one_word(text):
    with pytest.raises(UnwritableText):
        check_word(text)
