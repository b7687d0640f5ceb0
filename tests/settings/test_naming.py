"""Names of images."""

from __future__ import annotations

import pytest

from ltsp.build.server_files import BINARIES
from ltsp.errors import UsageError
from ltsp.services.dnsmasq import PXE_FIRMWARES
from ltsp.settings.naming import check_name, find_fault, suggest_name


@pytest.mark.parametrize("name", ["x86_64", "a", "0", "Debian-12.5+nonfree", "a" * 64, "a.img.b", "ltsp", "snponly"])
def test_letters_digits_and_some_punctuation_are_valid_in_a_name(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "must not be empty"),
        ("a b", "must not contain a space"),
        ("a,b", "must not contain a comma"),
        ("a/b", "must not contain a slash"),
        ("..", "must not begin with '.'"),
        (".hidden", "must not begin with '.'"),
        ("-r", "must not begin with '-'"),
        ("a\nb", "must not contain a line break"),
        ("a\tb", "must not contain a tab"),
        ("a\x1b[31m", r"must not contain '\x1b'"),
        ("a$(id)", "must not contain '$'"),
        ("ä", r"must not contain '\xe4'"),
        ("a\udcff", r"must not contain '\udcff'"),
        ("ltsp.img", "is reserved for a file in TFTP_DIR/ltsp"),
        ("ltsp.ipxe", "is reserved for a file in TFTP_DIR/ltsp"),
        ("Memtest.EFI", "is reserved for a file in TFTP_DIR/ltsp"),
        ("lab.img", "must not end with .img"),
        ("lab.img.old", "must not end with .old"),
        ("lab.lock", "must not end with .lock"),
        ("a" * 65, "has 65 characters; the limit is 64"),
    ],
)
def test_a_fault_is_named(name, reason):
    assert find_fault(name) == reason
    with pytest.raises(UsageError) as caught:
        check_name(name)
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
        ("My lab.img.old", "My-lab"),
        ("ltsp.img", "ltsp"),
        ("日本", "NAME"),
        ("", "NAME"),
    ],
)
def test_a_valid_name_is_suggested_for_an_invalid_one(text, name):
    assert suggest_name(text) == name
    assert not find_fault(name)


def test_no_image_can_have_the_name_of_a_shared_file_in_tftp_dir():
    for binary in BINARIES:
        assert find_fault(binary.name)
    for firmware in PXE_FIRMWARES:
        assert find_fault(firmware.file)
