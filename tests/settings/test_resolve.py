"""Command line before ltsp.conf before environment before default."""

from __future__ import annotations

import pytest

from ltsp.settings.applets import ImageOptions, LtspOptions, VersionsOptions
from ltsp.settings.hooks import find_hooks
from ltsp.settings.option import declared_options
from ltsp.settings.resolve import GivenOption, Setting, resolve


def given(options, **values):
    known = {option.name: option for option in declared_options(options)}
    return [GivenOption(known[name], value, f"--{known[name].long}") for name, value in values.items()]


def conf(**values):
    return {key: Setting(key, value, f"ltsp.conf:{line}") for line, (key, value) in enumerate(values.items(), 1)}


def image(given_=(), conf_=None, environ=None):
    faults: list[str] = []
    return resolve(ImageOptions, given_, conf_ or {}, environ or {}, faults), faults


def test_the_most_important_place_wins():
    everywhere = {"COMPRESSION": "lz4"}
    assert image()[0].compression == "auto"
    assert image((), {}, everywhere)[0].compression == "lz4"
    assert image((), conf(COMPRESSION="xz"), everywhere)[0].compression == "xz"
    options, faults = image(given(ImageOptions, compression="gzip"), conf(COMPRESSION="xz"), everywhere)
    assert (options.compression, faults) == ("gzip", [])


def test_the_last_of_an_option_given_twice_holds():
    assert image(given(ImageOptions, backup="0") + given(ImageOptions, backup="1"))[0].backup is True


def test_an_option_that_may_be_repeated_gathers_its_values():
    options = resolve(VersionsOptions, given(VersionsOptions, pin="a") + given(VersionsOptions, pin="b"), {}, {}, [])
    assert options.pin == ("a", "b")


def test_an_option_without_its_value_stands_for_one():
    assert image(given(ImageOptions, revert=None))[0].revert is True
    assert resolve(LtspOptions, given(LtspOptions, help=None), {}, {}, []).help == ""


def test_a_variable_that_is_set_but_empty_is_no_value_unless_emptiness_is_one():
    options, faults = image((), conf(BACKUP="", IONICE=""), {"CLEANUP": "", "THREADS": ""})
    assert (options.backup, options.cleanup, options.threads, options.ionice, faults) == (True, True, 0, (), [])


def test_an_empty_key_of_ltsp_conf_lets_the_environment_speak():
    assert image((), conf(BACKUP=""), {"BACKUP": "0"})[0].backup is False


def test_what_belongs_to_one_run_is_taken_from_the_command_line_alone():
    options, faults = image((), conf(NAME="x", DRY_RUN="1", HELP="1"), {"NAME": "y", "JSON": "1"})
    assert (options.name, options.dry_run, options.help, options.json, faults) == (None, False, False, False, [])


def test_every_fault_is_told_with_its_place():
    _options, faults = image(given(ImageOptions, backup="2"), conf(CLEANUP="x"), {"THREADS": "many"})
    assert faults == [
        "option --backup: '2' is neither 0 nor 1",
        "ltsp.conf:1: CLEANUP: 'x' is neither 0 nor 1",
        "environment: THREADS: 'many' is no whole number",
    ]


def test_a_wrong_value_is_shown_without_its_control_characters():
    _options, faults = image(given(ImageOptions, backup="\x1b[31m\udcff\n"))
    assert faults == [r"option --backup: '\x1b[31m\udcff\n' is neither 0 nor 1"]


def test_a_value_that_could_not_be_had_is_a_fault_only_where_it_is_asked_for():
    broken = {key: Setting(key, "", "ltsp.conf:9", "$X is not set") for key in ("BACKUP", "CUPS_SERVER")}
    assert image((), broken)[1] == ["ltsp.conf:9: BACKUP: $X is not set"]
    assert image(given(ImageOptions, backup="0"), broken)[1] == []


def test_hooks_are_in_the_order_of_their_names():
    faults: list[str] = []
    values = conf(PRE_IMAGE_B="b $LTSP_ROOT", PRE_IMAGE_A="a", POST_IMAGE_X="x", PRE_IMAGE_NONE="", PRE_KERNEL_X="no")
    values["PRE_IMAGE_C"] = Setting("PRE_IMAGE_C", "", "ltsp.conf:9", "$X is not set")
    found = find_hooks(values, "image", faults)
    assert [(hook.key, hook.command) for hook in found.before] == [
        ("PRE_IMAGE_A", "a"),
        ("PRE_IMAGE_B", "b $LTSP_ROOT"),
    ]
    assert [hook.where for hook in found.after] == ["ltsp.conf:3"]
    assert [hook.key for hook in found.writable_root] == ["PRE_IMAGE_B"]
    assert faults == ["ltsp.conf:9: PRE_IMAGE_C: $X is not set"]


@pytest.mark.parametrize("key", ["BASE_DIR", "TFTP_DIR", "HOME_DIR"])
def test_directories_of_ltsp_are_settable_everywhere(key):
    faults: list[str] = []
    name = key.lower()
    assert getattr(resolve(LtspOptions, (), conf(**{key: "/conf"}), {key: "/env"}, faults), name) == "/conf"
    assert getattr(resolve(LtspOptions, (), {}, {key: "/env"}, faults), name) == "/env"
