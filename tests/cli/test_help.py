"""The short help lists every option, and fits a terminal."""

from __future__ import annotations

import pytest

from ltsp.cli.help import format_help
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import declared_options


@pytest.mark.parametrize("applet", ["", *APPLETS])
def test_every_option_is_shown_with_its_default(applet):
    shown = format_help(applet)
    flat = " ".join(shown.split())
    for option in declared_options(APPLETS[applet].options if applet else LtspOptions):
        assert f"{option.spelling} {option.summary}" in flat
        if option.default_label:
            assert f"{option.summary} (default: {option.default_label})" in flat
    assert all(len(line) <= 100 for line in shown.splitlines())
    assert shown.endswith("\n")


def test_the_help_of_ltsp_names_the_applets():
    for applet in APPLETS.values():
        assert f"  {applet.name} " in format_help()
        assert applet.summary in format_help()


def test_the_help_of_an_applet_begins_with_its_usage():
    assert format_help("image").startswith(
        "Usage: ltsp [LTSP-OPTIONS] image [OPTIONS] [IMAGE]...\nGenerate a squashfs image"
    )
    assert format_help("info").startswith("Usage: ltsp [LTSP-OPTIONS] info [OPTIONS]\n")
