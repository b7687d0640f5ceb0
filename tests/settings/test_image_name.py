"""Names of images."""

from __future__ import annotations

import pytest

from ltsp.errors import UsageError
from ltsp.settings.image_name import checked, fault, suggestion


@pytest.mark.parametrize("name", ["x86_64", "a", "0", "Debian-12.5+nonfree", "a" * 64, "a.img.old"])
def test_letters_digits_and_a_few_marks_make_a_name(name):
    assert checked(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("a b", "holds a space"),
        ("a,b", "holds a comma"),
        ("a/b", "holds a slash"),
        ("..", "begins with '.'"),
        (".hidden", "begins with '.'"),
        ("-r", "begins with '-'"),
        ("a\nb", "holds a line break"),
        ("a\tb", "holds a tab"),
        ("a\x1b[31m", r"holds '\x1b'"),
        ("a$(id)", "holds '$'"),
        ("ä", r"holds '\xe4'"),
        ("a\udcff", r"holds '\udcff'"),
        ("a" * 65, "has 65 characters, 64 at most"),
    ],
)
def test_a_fault_is_named(name, reason):
    assert fault(name) == reason
    with pytest.raises(UsageError) as caught:
        checked(name)
    assert reason in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Lubuntu 24.04", "Lubuntu-24.04"),
        ('Linux Mint 22 "Wilma" - 64bit', "Linux-Mint-22-Wilma-64bit"),
        ("Schüler-Rechner", "Schuler-Rechner"),
        (".hidden", "hidden"),
        ("-r", "r"),
        ("a" * 70, "a" * 64),
        ("日本", "NAME"),
        ("", "NAME"),
    ],
)
def test_for_what_is_no_name_one_is_suggested(text, name):
    assert suggestion(text) == name
    assert not fault(name)
