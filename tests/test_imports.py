"""What each applet imports: the libraries and the parts that it uses, and nothing else, for all else costs time.

An import that one module lets slip in is paid by every build; one of an extra keeps the program from starting at all
where that was not installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.site import Site

_IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| *(\S+)$", re.MULTILINE)
_TRIED = {"org"}
"""Of Jython, which `copy` of the standard library looks for."""

FRONT = {"cli", "errors", "version"}
ASKED = FRONT | {"host", "settings"}
ALWAYS = ASKED | {"build", "commands", "report", "tree"}
PUBLISHED = ALWAYS | {"cpio", "publish"}
SERVES = ALWAYS | {"services"}
BUILDS = PUBLISHED | {"boot", "initrd", "inspection", "mksquashfs", "source", "squashfs", "storage", "transform"}
CODECS = {"backports", "deflate"}
OF_DISKS = CODECS | {"google_crc32c"}
AIOHTTP = {
    *("aiodns", "aiohappyeyeballs", "aiohttp", "aiosignal", "attr", "attrs", "backports", "brotli", "brotlicffi"),
    *("frozenlist", "idna", "multidict", "propcache", "typing_extensions", "yarl"),
}
"""With what it looks for and does without."""


MAX_MODULES = {
    "image lab --name=again": 180,
    "image --dry-run lab": 190,
    "kernel lab": 200,
    "initrd": 120,
    "versions lab": 60,
    "info": 60,
}
"""How many non-empty modules of ours an applet may load: to exceed it is a question to ask about a change."""


def imported(command, environment, *, status=0):
    """The modules of a run, as Python names them, beyond those of a Python that does nothing."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + _IMPORTED.sub("", done.stderr).strip()
    return set(_IMPORTED.findall(done.stderr)) - _of_python(environment)


def _of_python(environment):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", ""], env=environment, capture_output=True, text=True, check=True
    )
    return set(_IMPORTED.findall(done.stderr))


def libraries(modules):
    return {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"ltsp"} - _TRIED


def parts(modules):
    return {name.split(".")[1] for name in modules if name.startswith("ltsp.")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Clients boot `lab` already."""
    site = Site.make(tmp_path_factory.mktemp("site"))
    site.system("lab")
    site.ltsp("image", "lab")
    return site


@pytest.mark.parametrize("words", ["--help", "--help=image", "image --help", "boottest --help", "http --help"])
def test_help_imports_what_declares_the_options(site, words):
    modules = imported(site.command(*words.split()), site.environment())
    assert (libraries(modules), parts(modules) - ASKED) == (set(), set())


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_printed_before_any_option_is_declared(site, word):
    modules = imported(site.command(word), site.environment())
    assert (libraries(modules), parts(modules)) == (set(), FRONT)
    assert not modules & {"dataclasses", "inspect", "importlib.metadata"}


@pytest.mark.parametrize(
    ("words", "libraries_of_it", "parts_of_it"),
    [
        ("image lab --name=again", CODECS, BUILDS),
        ("image --dry-run lab", CODECS, BUILDS),
        ("image --dry-run -i nice lab", CODECS, BUILDS),
        ("image --dry-run --verify lab", CODECS, BUILDS),
        ("image --dry-run --engine=mksquashfs lab", CODECS, BUILDS),
        ("image --dry-run --name=copy {base}/images/lab.img", OF_DISKS, BUILDS | {"disk", "sandbox"}),
        ("image --dry-run {base}/lab.tar", OF_DISKS, BUILDS | {"archive", "disk", "sandbox"}),
        ("kernel lab", OF_DISKS, BUILDS | {"disk", "sandbox"}),
        ("info", set(), PUBLISHED),
        ("info --json", set(), PUBLISHED),
        ("versions lab", set(), PUBLISHED),
        ("ipxe", set(), PUBLISHED | {"boot"}),
        ("initrd", CODECS, BUILDS),
        ("dnsmasq --dry-run", set(), SERVES),
        ("nfs --dry-run", set(), SERVES),
        ("dhcp-snippet isc", set(), SERVES),
        ("http --nginx", set(), SERVES),
        ("http --service --dry-run", AIOHTTP, SERVES),
    ],
)
def test_an_applet_imports_what_it_uses(site, words, libraries_of_it, parts_of_it):
    if "lab.tar" in words:
        subprocess.run(["tar", "-C", site.base / "lab", "-cf", site.base / "lab.tar", "."], check=True)
    command = site.command(*(word.format(base=site.base) for word in words.split()))
    modules = imported(command, site.environment())
    assert libraries(modules) <= libraries_of_it
    assert parts(modules) <= parts_of_it
    loaded = [name for name in modules if name.startswith("ltsp.") and not _is_package(name)]
    assert len(loaded) <= MAX_MODULES.get(words, len(loaded))


@pytest.mark.parametrize("words", ["versions lab", "info"])
def test_what_only_reads_imports_nothing_that_changes_images(site, words):
    modules = imported(site.command(*words.split()), site.environment())
    assert not modules & {"concurrent.futures", "email", "hashlib", "logging", "rich", "socket", "ssl"}
    assert not modules & {"ltsp.publish.locked_image", "ltsp.publish.stage", "ltsp.publish.switch"}


def _is_package(name):
    return (Path(__file__).parent.parent / "src" / name.replace(".", "/")).is_dir()


def test_a_boot_test_imports_no_library(site):
    modules = imported(site.command("boottest", "nothing"), site.environment(), status=1)
    assert libraries(modules) == set()
    assert parts(modules) <= PUBLISHED | {"boot", "boottest", "cpio", "services"}


def test_no_part_imports_an_extra_before_it_is_asked_for(site):
    """All but the server by HTTP, which is imported where one is asked for."""
    source = Path(__file__).parent.parent / "src"
    names = [
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in sorted(source.rglob("*.py"))
        if path.name not in {"__init__.py", "http_server.py", "disk_session.py"}
    ]
    modules = imported([sys.executable, "-c", f"import {', '.join(names)}"], site.environment())
    assert libraries(modules) <= CODECS | {"google_crc32c"}
