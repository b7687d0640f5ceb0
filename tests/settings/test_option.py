"""Kinds of values, and properties of declarations."""

from __future__ import annotations

import os
import re

import pytest

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.option import (
    Argument,
    Choice,
    DirectoryPath,
    FilePath,
    Flag,
    HostAddress,
    ImageName,
    Integer,
    Mode,
    Text,
    Words,
    declared_options,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Flag(), "0", False),
        (Flag(), "1", True),
        (Text(), "", ""),
        (Text(), "a b", "a b"),
        (HostAddress(), "", ""),
        (HostAddress(), "10.0.0.3", "10.0.0.3"),
        (HostAddress(), "server.example.org", "server.example.org"),
        (DirectoryPath(), "/srv/ltsp", "/srv/ltsp"),
        (ImageName(), "x86_64", "x86_64"),
        (Choice(("a", "b")), "b", "b"),
        (Integer(), "0", 0),
        (Integer(), "007", 7),
        (Integer(maximum=5), "5", 5),
        (Mode(), "0640", 0o640),
        (Mode(), "644", 0o644),
        (Words(), "", ()),
        (Words(), "-comp xz -e 'a b'", ("-comp", "xz", "-e", "a b")),
        (Words(), "''", ("",)),
    ],
)
def test_a_kind_parses_its_text(kind, text, value):
    assert kind.parse(text) == value


def test_paths_are_made_absolute():
    assert DirectoryPath().parse("here") == os.path.join(os.getcwd(), "here")
    assert FilePath().parse("here/file") == os.path.join(os.getcwd(), "here/file")


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Flag(), "", "is neither 0 nor 1"),
        (Flag(), "yes", "is neither 0 nor 1"),
        (HostAddress(), "1.2.3", "is not an IPv4 address such as 192.168.1.10"),
        (HostAddress(), "10.0.0.300", "is not an IPv4 address such as 192.168.1.10"),
        (HostAddress(), "fe80::1", "is not an IPv4 address such as 192.168.1.10"),
        (HostAddress(), "${ip}", "is not an IPv4 address such as 192.168.1.10"),
        (HostAddress(), "10.0.0.1;shell", "is not an IPv4 address such as 192.168.1.10"),
        (Flag(), "01", "is neither 0 nor 1"),
        (DirectoryPath(), "", "is empty"),
        (ImageName(), "a,b", "must not contain a comma; a-b is valid"),
        (Choice(("a", "b")), "c", "is not one of a, b"),
        (Integer(), "", "is not a whole number"),
        (Integer(), "-1", "is not a whole number"),
        (Integer(), "1.5", "is not a whole number"),
        (Integer(), "٣", "is not a whole number"),
        (Integer(minimum=1), "0", "is not between 1 and 2147483647"),
        (Integer(maximum=5), "6", "is not between 0 and 5"),
        (Integer(), "9" * 5000, "is not between 0 and 2147483647"),
        (Mode(), "", "is not a mode such as 0640"),
        (Mode(), "0888", "is not a mode such as 0640"),
        (Mode(), "04755", "is not a mode such as 0640"),
        (Mode(), "rw", "is not a mode such as 0640"),
        (Mode(), "0044", "must let the owner read (0400)"),
        (Words(), "'a", "has an unclosed quote"),
        (Words(), "a\\", "ends with a backslash"),
    ],
)
def test_a_kind_reports_what_is_wrong(kind, text, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        kind.parse(text)


def named(options, name):
    return next(option for option in declared_options(options) if option.name == name)


def test_one_declaration_gives_flag_key_and_spelling():
    backup = named(ImageOptions, "backup")
    assert (backup.long, backup.key, backup.spelling) == ("backup", "BACKUP", "-b, --backup=0|1")
    params = named(ImageOptions, "mksquashfs_params")
    assert (params.long, params.key) == ("mksquashfs-params", "MKSQUASHFS_PARAMS")
    assert named(ImageOptions, "revert").spelling == "-r, --revert[=0|1]"
    assert named(ImageOptions, "all_images").spelling == "--all-images[=0|1]"
    assert named(LtspOptions, "version").spelling == "-V, --version"


EVERY = [LtspOptions, *(applet.options for applet in APPLETS.values())]


@pytest.mark.parametrize("options", EVERY, ids=lambda options: options.__name__)
def test_flags_are_unique_and_defaults_are_values(options):
    every = declared_options(options)
    shorts = [option.short for option in every if option.short]
    assert len(set(shorts)) == len(shorts)
    assert all(len(option.long) > 1 for option in every)
    assert all(option.argument is not Argument.REQUIRED or option.kind.metavar for option in every)
    assert all(option.summary and not option.summary.endswith(".") for option in every)


def test_the_options_match_the_manual_page():
    spelled = {option.spelling: option.default for option in declared_options(ImageOptions) if option.short}
    assert spelled == {
        "-b, --backup=0|1": True,
        "-c, --cleanup=0|1": True,
        "-i, --ionice=CMDLINE": None,
        "-k, --kernel-initrd=GLOB-REGEX": "",
        "-m, --mksquashfs-params=PARAMS": (),
        "-r, --revert[=0|1]": False,
        "-q, --quiet[=0|1]": False,
        "-h, --help": False,
    }
    assert {option.spelling: option.default for option in declared_options(LtspOptions)} == {
        "-b, --base-dir=DIR": "/srv/ltsp",
        "-h, --help[=APPLET]": None,
        "-m, --home-dir=DIR": "/home",
        "-o, --overwrite[=0|1]": True,
        "-t, --tftp-dir=DIR": "/srv/tftp",
        "-V, --version": False,
    }
