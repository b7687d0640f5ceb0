"""The manual pages: complete, and without warnings from groff."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.conf_keys import CONF_KEYS, Reader
from ltsp.settings.option import Reach, declared_options
from tools import manual, share
from tools.roff import roff

PAGES = manual.pages()
CHECKOUT = Path(share.__file__).parent.parent
EVERY = {"ltsp.8": LtspOptions} | {f"ltsp-{name}.8": applet.options for name, applet in APPLETS.items()}


def shown(page):
    """The page as a terminal shows it, wide enough that no line breaks."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-rLL=600n", "-P-cbou"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_there_is_a_page_for_everything():
    applets = "boottest dhcp-snippet dnsmasq http image info initrd ipxe kernel nfs versions"
    assert set(PAGES) == {"ltsp.8", "ltsp.conf.5", *(f"ltsp-{name}.8" for name in applets.split())}


@pytest.mark.parametrize("name", PAGES)
def test_sections_are_those_of_a_manual_page(name):
    sections = [line.removeprefix(".SH ") for line in PAGES[name].splitlines() if line.startswith(".SH ")]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-1] == "SEE ALSO"
    wanted = {"KEYS", "FILES", "EXAMPLES"} if name == "ltsp.conf.5" else {"OPTIONS", "FILES", "EXIT STATUS", "EXAMPLES"}
    assert wanted <= set(sections)


@pytest.mark.oracle
@pytest.mark.parametrize("name", EVERY)
def test_every_option_is_in_the_page_that_groff_shows(name):
    page = shown(PAGES[name])
    for option in declared_options(EVERY[name]):
        assert option.spelling in page
        assert f"{option.summary[0].upper()}{option.summary[1:]}." in page


@pytest.mark.oracle
def test_every_key_is_in_the_page_of_ltsp_conf():
    page = shown(PAGES["ltsp.conf.5"])
    for options in EVERY.values():
        for option in declared_options(options):
            assert (f" {option.key}={option.kind.metavar} " in page) is (option.reach is Reach.EVERYWHERE)


@pytest.mark.oracle
def test_every_key_of_menus_clients_and_builds_is_in_the_page_of_ltsp_conf():
    page = shown(PAGES["ltsp.conf.5"])
    for keys in CONF_KEYS:
        if keys.reader is not Reader.NOBODY:
            assert f" {keys.label} {keys.meaning.replace('`', '')}" in page
            assert f" Default: {keys.default.replace('`', '')}." in page or not keys.default


@pytest.mark.parametrize(
    ("name", "operands"),
    [("boottest", r"\fIimage\fR"), ("dhcp-snippet", r"\fIkind\fR"), ("image", r"[\fIimage\fR]...")],
)
def test_the_synopsis_shows_how_many_arguments_an_applet_takes(name, operands):
    lines = PAGES[f"ltsp-{name}.8"].splitlines()
    assert lines[lines.index(".SH DESCRIPTION") - 1].endswith(f" {operands}")


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("## NAME\n\nltsp - x\n", [".SH NAME", r"ltsp \- x"]),
        ("a --b `-c`\n\nd\n", [".PP", r"a \-\-b \fB\-c\fR", ".PP", "d"]),
        ("'a\n", [".PP", r"\&'a"]),
        ("```\n.x 'y' \\\n```\n", [".PP", ".RS 4", ".nf", r"\&.x \(aqy\(aq \e", ".fi", ".RE"]),
        ("**-b**=*N*\n:   Text\n    goes on.\n", [".TP", r"\fB\-b\fR=\fIN\fR", "Text goes on."]),
    ],
)
def test_markdown_becomes_roff(markdown, lines):
    assert roff(markdown).splitlines() == lines


@pytest.mark.parametrize("markdown", ["* a list\n", "a [link](x)\n", "<!-- unknown -->\n", "x\n:   y\n\n        z\n"])
def test_what_a_page_cannot_have_is_an_error(markdown):
    with pytest.raises(ValueError, match=r"manual pages cannot have|a definition is one paragraph"):
        roff(markdown)


@pytest.mark.parametrize(
    ("prose", "fault"),
    [
        ("ltsp\n", "not a title"),
        ("# ltsp(8)\n\n<!-- nothing -->\n", "no such marker: nothing"),
        ("# other(8)\n\n<!-- name -->\n", "no such marker: name"),
    ],
)
def test_a_page_with_a_wrong_title_or_marker_is_an_error(prose, fault):
    with pytest.raises(ValueError, match=fault):
        manual.page(prose)


@pytest.mark.oracle
@pytest.mark.parametrize("name", PAGES)
def test_man_has_no_warnings(name, tmp_path):
    path = tmp_path / name
    path.write_text(PAGES[name])
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert done.stderr == ""


@pytest.mark.oracle
@pytest.mark.parametrize("name", PAGES)
def test_mandoc_has_no_complaints(name, tmp_path):
    path = tmp_path / name
    path.write_text(PAGES[name])
    done = subprocess.run(["mandoc", "-Tlint", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_lines_are_roff_and_short(name):
    for line in PAGES[name].splitlines():
        assert line.isascii()
        assert not re.match(r"^[.'](?![A-Z]{1,2}( |$)|nf$|fi$)", line), line


def test_files_of_a_package_are_written_to_a_directory(tmp_path):
    subprocess.run([sys.executable, "-m", "tools.share", str(tmp_path)], check=True, cwd=CHECKOUT)
    again = tmp_path / "again"
    share.write(str(again))
    assert (again / "man/man8/ltsp.8").read_text() == PAGES["ltsp.8"]
    shutil.rmtree(again)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == share.files()
    assert {"man/man8/ltsp-image.8", "man/man5/ltsp.conf.5", "bash-completion/completions/ltsp"} <= set(written)
    done = subprocess.run([sys.executable, "-m", "tools.share"], capture_output=True, check=False, cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (1, b"usage: python -m tools.share DIRECTORY\n")
