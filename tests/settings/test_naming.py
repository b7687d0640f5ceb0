"""Names of images."""

from __future__ import annotations

import pytest

from ltsp.build.server_files import BINARIES
from ltsp.errors import UsageError
from ltsp.services.dnsmasq import FIRMWARES
from ltsp.settings.naming import check_name, fault, suggest_name


@pytest.mark.parametrize("name", ["x86_64", "a", "0", "Debian-12.5+nonfree", "a" * 64, "a.img.b", "ltsp", "snponly"])
def test_letters_digits_and_some_punctuation_are_valid_in_a_name(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("a b", "contains a space"),
        ("a,b", "contains a comma"),
        ("a/b", "contains a slash"),
        ("..", "begins with '.'"),
        (".hidden", "begins with '.'"),
        ("-r", "begins with '-'"),
        ("a\nb", "contains a line break"),
        ("a\tb", "contains a tab"),
        ("a\x1b[31m", r"contains '\x1b'"),
        ("a$(id)", "contains '$'"),
        ("ä", r"contains '\xe4'"),
        ("a\udcff", r"contains '\udcff'"),
        ("ltsp.img", "is the name of a file in TFTP_DIR/ltsp"),
        ("ltsp.ipxe", "is the name of a file in TFTP_DIR/ltsp"),
        ("Memtest.EFI", "is the name of a file in TFTP_DIR/ltsp"),
        ("lab.img", "ends with '.img'"),
        ("lab.img.old", "ends with '.old'"),
        ("lab.lock", "ends with '.lock'"),
        ("a" * 65, "has 65 characters; the limit is 64"),
    ],
)
def test_a_fault_is_named(name, reason):
    assert fault(name) == reason
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
    assert not fault(name)


def test_no_image_can_have_the_name_of_a_shared_file_in_tftp_dir():
    for binary in BINARIES:
        assert fault(binary.name)
    for firmware in FIRMWARES:
        assert fault(firmware.file)
