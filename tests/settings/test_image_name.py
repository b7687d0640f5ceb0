"""Names of images."""

from __future__ import annotations

import pytest

from ltsp.build.ipxe_binaries import BINARIES
from ltsp.errors import UsageError
from ltsp.services.pxe_firmware import FIRMWARES
from ltsp.settings.image_name import check_name, fault, suggest_name


@pytest.mark.parametrize("name", ["x86_64", "a", "0", "Debian-12.5+nonfree", "a" * 64, "a.img.b", "ltsp", "snponly"])
def test_letters_digits_and_a_few_marks_make_a_name(name):
    assert check_name(name) == name


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
        ("ltsp.img", "is that of a file in TFTP_DIR/ltsp"),
        ("ltsp.ipxe", "is that of a file in TFTP_DIR/ltsp"),
        ("Memtest.EFI", "is that of a file in TFTP_DIR/ltsp"),
        ("lab.img", "ends with '.img'"),
        ("lab.img.old", "ends with '.old'"),
        ("lab.lock", "ends with '.lock'"),
        ("a" * 65, "has 65 characters, 64 at most"),
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
def test_for_what_is_no_name_one_is_suggested(text, name):
    assert suggest_name(text) == name
    assert not fault(name)


def test_no_image_can_have_the_name_of_a_file_that_is_copied_beside_the_images():
    for binary in BINARIES:
        assert fault(binary.name)
    for firmware in FIRMWARES:
        assert fault(firmware.file)
