"""Command line before ltsp.conf before environment before default."""

from __future__ import annotations

import pytest

from ltsp.settings.applets import LtspOptions
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.option import GivenOption, declared_options
from ltsp.settings.resolve import Setting, find_hooks, resolve_options
from ltsp.settings.version_options import VersionsOptions


def given(options, **values):
    known = {option.name: option for option in declared_options(options)}
    return [GivenOption(known[name], value, f"--{known[name].long}") for name, value in values.items()]


def conf(**values):
    return {key: Setting(key, value, f"ltsp.conf:{line}") for line, (key, value) in enumerate(values.items(), 1)}


def image(given_=(), conf_=None, environ=None):
    faults: list[str] = []
    return resolve_options(ImageOptions, given_, conf_ or {}, environ or {}, faults), faults


def test_the_origin_with_the_highest_priority_wins():
    everywhere = {"COMPRESSION": "lz4"}
    assert image()[0].compression == "auto"
    assert image((), {}, everywhere)[0].compression == "lz4"
    assert image((), conf(COMPRESSION="xz"), everywhere)[0].compression == "xz"
    options, faults = image(given(ImageOptions, compression="gzip"), conf(COMPRESSION="xz"), everywhere)
    assert (options.compression, faults) == ("gzip", [])


def test_the_last_value_of_an_option_given_twice_wins():
    assert image(given(ImageOptions, backup="0") + given(ImageOptions, backup="1"))[0].backup is True


def test_a_repeatable_option_collects_its_values():
    options = resolve_options(
        VersionsOptions, given(VersionsOptions, pin="a") + given(VersionsOptions, pin="b"), {}, {}, []
    )
    assert options.pin == ("a", "b")


def test_an_option_without_a_value_means_one():
    assert image(given(ImageOptions, revert=None))[0].revert is True
    assert resolve_options(LtspOptions, given(LtspOptions, help=None), {}, {}, []).help == ""


def test_an_empty_variable_is_unset_unless_empty_is_a_value():
    options, faults = image((), conf(BACKUP="", IONICE=""), {"CLEANUP": "", "THREADS": ""})
    assert (options.backup, options.cleanup, options.threads, options.ionice, faults) == (True, True, 0, (), [])


def test_an_empty_key_of_ltsp_conf_does_not_override_the_environment():
    assert image((), conf(BACKUP=""), {"BACKUP": "0"})[0].backup is False


def test_options_of_a_single_run_are_read_only_from_the_command_line():
    options, faults = image((), conf(NAME="x", DRY_RUN="1", HELP="1"), {"NAME": "y", "JSON": "1"})
    assert (options.name, options.dry_run, options.help, options.json, faults) == (None, False, False, False, [])


def test_every_fault_is_reported_with_its_origin():
    _options, faults = image(given(ImageOptions, backup="2"), conf(CLEANUP="x"), {"THREADS": "many"})
    assert faults == [
        "option --backup: '2' is neither 0 nor 1",
        "ltsp.conf:1: CLEANUP: 'x' is neither 0 nor 1",
        "environment: THREADS: 'many' is not a whole number",
    ]


def test_a_wrong_value_is_shown_without_its_control_characters():
    _options, faults = image(given(ImageOptions, backup="\x1b[31m\udcff\n"))
    assert faults == [r"option --backup: '\x1b[31m\udcff\n' is neither 0 nor 1"]


def test_an_invalid_value_is_a_fault_only_if_it_is_used():
    broken = {key: Setting(key, "", "ltsp.conf:9", "$X is not set") for key in ("BACKUP", "CUPS_SERVER")}
    assert image((), broken)[1] == ["ltsp.conf:9: BACKUP: $X is not set"]
    assert image(given(ImageOptions, backup="0"), broken)[1] == []


def test_hooks_are_in_the_order_of_their_names():
    faults: list[str] = []
    values = conf(PRE_IMAGE_B="b $LTSP_ROOT", PRE_IMAGE_A="a", POST_IMAGE_X="x", PRE_IMAGE_NONE="", PRE_KERNEL_X="no")
    values["PRE_IMAGE_C"] = Setting("PRE_IMAGE_C", "", "ltsp.conf:9", "$X is not set")
    found = find_hooks(values, "image", faults)
    assert [(hook.key, hook.value) for hook in found.pre_hooks] == [
        ("PRE_IMAGE_A", "a"),
        ("PRE_IMAGE_B", "b $LTSP_ROOT"),
    ]
    assert [hook.where for hook in found.post_hooks] == ["ltsp.conf:3"]
    assert [hook.key for hook in found.hooks_with_root] == ["PRE_IMAGE_B"]
    assert faults == ["ltsp.conf:9: PRE_IMAGE_C: $X is not set"]


@pytest.mark.parametrize("key", ["BASE_DIR", "TFTP_DIR", "HOME_DIR"])
def test_directories_of_ltsp_are_settable_everywhere(key):
    faults: list[str] = []
    name = key.lower()
    assert getattr(resolve_options(LtspOptions, (), conf(**{key: "/conf"}), {key: "/env"}, faults), name) == "/conf"
    assert getattr(resolve_options(LtspOptions, (), {}, {key: "/env"}, faults), name) == "/env"
