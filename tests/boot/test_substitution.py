"""Substitutions of the kernel's path for the initrd's, compared with sed."""

import subprocess

import pytest

from ltsp.boot.substitution import parse_substitutions
from ltsp.errors import UsageError

EXPRESSIONS = [
    "s|vmlinuz|initrd.img|",
    "s/vmlinuz/initrd/;s/-/+/g",
    r"s|vmlinuz-\(.*\)|initramfs-\1.img|",
    r"s|live/\([^/]*\)|other/&.x|",
    "s,L,l,gI",
    r"s|\.|_|g",
    r"s/live\/vmlinuz/x\/y/",
    r"s|[0-9]\+|N|",
    r"s|a\{1,\}|A|g",
    r"s|\(live\|boot\)|dir|",
    "s|^live|X|; s|64$|32|",
    "s|a*|x|",
    r"s|v.*z|\&|",
    "s|(x)|y|",
    "s|$|.img|",
]


@pytest.mark.oracle
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_does_what_sed_does(expression):
    for path in ("live/vmlinuz-6.1.0-9-amd64", "boot/vmlinuz", "a/LL(x)"):
        ours = path
        for substitution in parse_substitutions(expression):
            ours = substitution.apply(ours)
        assert (
            ours == subprocess.run(["sed", expression], input=path, capture_output=True, text=True, check=True).stdout
        )


@pytest.mark.parametrize(
    "bad",
    ["x", "s", "s|a", "s|a|b", "s|a|b|e", "s|a|b|w /etc/passwd", "y/a/b/", r"s|\(a|b|", r"s|a|\1|", "1d", "s|[|b|"],
)
def test_anything_else_of_sed_is_refused(bad):
    with pytest.raises(UsageError, match="invalid initrd rule"):
        parse_substitutions(bad)
