"""Names that would do something if they were printed or read as they are, in every place that a name can come from."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from dataclasses import replace

import pytest

from corpus.error_checks import UNPRIVILEGED, one_line
from corpus.hostile_names import NASTY
from corpus.site import Site
from corpus.system import FILES, VERSION, make_system
from ltsp.tree.name import encode

pytestmark = [pytest.mark.oracle, pytest.mark.root]

IN_WORDS = [name for name in NASTY if "\0" not in name and "\udc1b" not in name]
"""Those that bytes can spell, and a command line hold."""
NAMES = [name for name in IN_WORDS if "/" not in name]
_SCREEN = re.compile(rb"\x1b\[[0-9;?]*[A-HJKhlm]")
"""What a bar does to a terminal: colours, the cursor, lines that are cleared."""
_IPXE = re.compile(r"(#|:|set|isset|iseq|clear|goto|kernel|initrd|boot|echo|exit)[A-Za-z0-9 ._+/:,${}=|&-]*|#!ipxe")


def assert_safe(said: bytes):
    """That it does nothing but show."""
    text = said.decode()
    bad = {character for character in text if not character.isprintable() and character != "\n"}
    assert not bad, f"{bad} in {said[:2000]!r}"


def run(site, *words, status=0, **environment):
    """Its standard output, which is safe, and so is what it says besides."""
    done = subprocess.run(
        [encode(word) for word in site.command(*words)],
        env={name: encode(value) for name, value in site.environment(**environment).items()},
        cwd=site.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, done.stderr
    assert_safe(done.stdout)
    assert_safe(done.stderr)
    return done.stdout.decode() + done.stderr.decode()


def on_terminal(site, *words, **environment):
    """What appears on a terminal that takes colours and moves its cursor."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [encode(word) for word in site.command(*words)],
        env=site.environment(TERM="xterm-256color", COLUMNS="100", **environment),
        cwd=site.home,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                break
            said += piece
    os.close(ours)
    assert b"Traceback" not in said, said
    # Colours of ours only: those that the names ask for are others.
    assert set(re.findall(rb"\x1b\[([0-9;]*)m", said)) <= {b"", b"0", b"31", b"33"} | set(_BAR_COLOURS), said
    assert_safe(_SCREEN.sub(b"", said).replace(b"\r", b""))
    return process.returncode


_BAR_COLOURS = (b"38;5;237", b"38;5;70", b"38;5;197", b"38;2;249;38;114", b"38;2;114;156;31")


@pytest.fixture
def site(tmp_path):
    """A system in which everything that has a name has each of these, some of it not readable."""
    site = Site.make(tmp_path)
    packages = "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {name}\nArchitecture: all\n\n"
        for name in NAMES
        if name.splitlines() == [name]
    )
    lab = make_system(site.base / "lab")
    with open(lab / "var/lib/dpkg/status", "wb") as file:
        file.write(FILES["var/lib/dpkg/status"].encode() + encode(packages))
    for name in NAMES:
        raw = encode(name)
        for directory in (b"opt", b"usr/bin", b"etc/sudoers.d", b"var/www"):
            os.makedirs(os.path.join(os.fsencode(lab), directory), exist_ok=True)
            with open(os.path.join(os.fsencode(lab), directory, raw), "wb") as file:
                file.write(raw)
        os.chmod(os.path.join(os.fsencode(lab), b"usr/bin", raw), 0o4755)
        os.chmod(os.path.join(os.fsencode(lab), b"opt", raw), 0)
        with open(os.path.join(os.fsencode(lab), b"boot", (b"vmlinuz-" + raw)[:255]), "wb") as file:
            file.write(b"\x7fELF kernel without modules")
    for link in ("vmlinuz", "initrd.img"):
        (lab / link).unlink()
    return replace(site, through=UNPRIVILEGED)


def assert_well_formed(site):
    """What programs read of an image: its pointer, which has no quoting, and its manifest."""
    lines = (site.tftp / "ltsp/lab/boot.ipxe").read_text(encoding="ascii").splitlines()
    assert all(_IPXE.fullmatch(line) for line in lines), lines
    (manifest,) = (site.base / "images/.versions/lab").glob("*/manifest.json")
    json.loads(manifest.read_text(encoding="ascii"))


@pytest.mark.parametrize("progress", ["plain", "json", "none"])
def test_names_of_files_kernels_and_packages_print_safely(site, progress, record_property):
    words = ("image", "--ionice=", "--skip-unreadable", f"--progress={progress}", "lab")
    said = run(site, *words, status=3)
    mark = '"event": "warning", "text": "cannot read /opt/' if progress == "json" else "warning: cannot read /opt/"
    assert sum(mark in line for line in said.splitlines()) == len(NAMES)
    assert_well_formed(site)
    (site.base / "lab/var/lib/dpkg/status").write_text(FILES["var/lib/dpkg/status"])
    run(site, *words, status=3)
    for command in (("versions", "lab"), ("versions", "--json"), ("info",), ("info", "--json")):
        run(site, *command)
    run(site, "image", "--dry-run", "lab")
    json.loads(site.ltsp("image", "--dry-run", "--json", "lab").stdout)
    json.loads(site.ltsp("versions", "--json", "lab").stdout)
    record_property("R12", f"{len(NAMES)} names of files, kernels and packages, --progress={progress}: 0 raw bytes")


def test_names_on_a_terminal_do_nothing_but_show(site, record_property):
    for words in (("image", "--ionice=", "--skip-unreadable", "lab"), ("image", "--dry-run", "lab"), ("info",)):
        assert on_terminal(site, *words) in {0, 3}
    assert on_terminal(site, "image", "--ionice=", "lab") == 1
    assert_well_formed(site)
    record_property("R12", f"{len(NAMES)} names on a terminal, 0 raw bytes")


def test_names_in_the_base_directory_print_safely(tmp_path):
    """Chroots that cannot be images are passed over, each with a line."""
    site = Site.make(tmp_path)
    site.system("lab")
    bad = [name for name in NAMES if not name.isalnum()]
    for name in bad:
        os.makedirs(os.path.join(os.fsencode(site.base), encode(name), b"proc"))
    said = run(site, "image")
    assert said.count("; skipped: ") == len(bad)
    run(site, "info")
    assert on_terminal(site, "info") == 0
    json.loads(site.ltsp("info", "--json").stdout)


@pytest.mark.parametrize("count", [3, pytest.param(None, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_names_in_the_command_line_and_in_settings_print_safely(tmp_path, chance, count, record_property):
    """As image, path, option, its value, applet and place; whatever the answer is, it is a line."""
    site = Site.make(tmp_path)
    site.system("lab")
    names = IN_WORDS if count is None else chance.sample(IN_WORDS, count)
    for name in names:
        for words in (
            ("image", "--", name),
            ("image", f"./{name}"),
            ("image", f"--{name}"),
            ("image", f"--compression={name}", "lab"),
            ("image", "-m", f"-{name}", "--engine=own", "lab"),
            ("image", "--quiet", "-k", name, "lab"),
            (name,),
            ("versions", "--", name),
            ("kernel", "--", name),
            ("-b", f"{tmp_path}/{name}", "versions", "lab"),
        ):
            said = run(site, *words, status=None)
            if said.startswith("ltsp: "):
                one_line(said)
        run(site, "info", status=None, LTSP_CONF=f"/{name}")
        run(site, "info", status=None, BASE_DIR=f"/{name}")
    record_property("R12", f"{len(names)} names in 12 places of the command line and its settings, 0 raw bytes")


@pytest.mark.parametrize("count", [4, pytest.param(None, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_source_at_a_path_of_such_a_name_is_built(tmp_path, chance, count):
    names = NAMES if count is None else chance.sample(NAMES, count)
    site = Site.make(tmp_path)
    for number, name in enumerate(names):
        place = os.path.join(os.fsencode(tmp_path), b"%d" % number, encode(name))
        os.makedirs(os.path.dirname(place))
        os.rename(make_system(tmp_path / "system"), place)
        path = f"{tmp_path}/{number}/{name}"
        if ",," in path or "," in name:
            continue
        said = run(site, "image", "--name=lab", path)
        assert "published lab" in said or "unchanged lab" in said
        run(site, "versions", "lab")
        assert (site.base / "images/lab.img").exists()
        assert VERSION in site.ltsp("versions", "lab").stdout
