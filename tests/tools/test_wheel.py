"""The package that `pipx install ltsp` installs, in an environment that has nothing else, not even pip."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from corpus.luks import encrypted
from corpus.site import Site, listing
from ltsp.settings.applets import APPLETS

CHECKOUT = Path(__file__).parent.parent.parent
LIBRARIES = {"backports.zstd", "deflate", "google-crc32c", "markdown-it-py", "mdurl", "pygments", "rich"}
"""What the program cannot do without; Python 3.14 has zstd itself."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    at = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", at]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = at.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel and what it asks for, in the versions that are locked."""
    at = tmp_path_factory.mktemp("installed")
    venv.create(at / "venv", symlinks=True)
    locked = re.findall(r"^[a-z0-9-]+==[^ ;\\]+", (CHECKOUT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    (at / "locked.txt").write_text("\n".join(locked))
    python = at / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--only-binary=:all:"]
    subprocess.run([*pip, "--constraint", at / "locked.txt", wheel], check=True)
    return at / "venv"


@dataclass(frozen=True)
class Installed(Site):
    """A server where the command is that of an environment."""

    program: Path = Path()

    def command(self, *arguments):
        return [str(self.program), *arguments]

    def environment(self, **more):
        return {name: value for name, value in super().environment(**more).items() if name != "PYTHONPATH"}


@pytest.fixture
def site(environment, tmp_path):
    made = Site.make(tmp_path)
    made.system("lab")
    return Installed(made.base, made.tftp, made.conf, made.home, program=environment / "bin/ltsp")


def test_a_wheel_has_the_lists_the_manual_pages_and_completion(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition(".data/data/share/")[2] for name in names if ".data/data/share/" in name}
    assert {"man/man8/ltsp.8", "man/man8/ltsp-image.8", "man/man5/ltsp.conf.5"} <= shared
    assert {"bash-completion/completions/ltsp", "zsh/site-functions/_ltsp"} <= shared
    assert {"ltsp/transform/lists/image.excludes", "ltsp/transform/lists/image.secrets"} <= set(names)


@pytest.mark.oracle
def test_man_and_the_shells_find_what_an_environment_has(environment):
    share = environment / "share"
    for name in ("ltsp", *(f"ltsp-{applet}" for applet in APPLETS), "ltsp.conf"):
        assert Path(output("man", "-M", share / "man", "-w", name)).is_file()
    loads = ". /usr/share/bash-completion/bash_completion; _comp_load ltsp 2>&- || _completion_loader ltsp"
    assert (
        output("env", f"XDG_DATA_HOME={share}", "bash", "--norc", "-c", f"{loads}; complete -p ltsp")
        == "complete -F _ltsp ltsp"
    )
    loads = f"fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; compinit -D -u; print $_comps[ltsp]"
    assert output("zsh", "-fc", loads) == "_ltsp"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_without_extras_it_brings_few_libraries(environment):
    (libraries,) = environment.glob("lib/python*/site-packages")
    names = {found.name.lower() for found in importlib.metadata.distributions(path=[str(libraries)])}
    assert names - {"ltsp"} <= LIBRARIES


def test_every_applet_shows_its_help(site):
    assert site.ltsp("--version").stdout == f"ltsp {importlib.metadata.version('ltsp')}\n"
    for applet in ("", *APPLETS):
        assert site.ltsp(*filter(None, [applet]), "--help").stdout.startswith("Usage: ltsp")


def test_a_chroot_becomes_what_clients_boot(site):
    site.ltsp("image", "--dry-run", "lab")
    site.ltsp("image", "--verify", "lab")
    assert {"etc/passwd", "usr/bin/tool"} <= listing(site.image("lab"))
    (site.base / "lab/etc/motd").write_text("another\n")
    site.ltsp("image", "lab")
    site.ltsp("image", "--revert", "lab")
    assert "etc/motd" not in listing(site.image("lab"))
    site.ltsp("kernel", "lab")
    assert site.kernel("lab").is_file()
    for words in (
        *("initrd --dry-run", "initrd", "ipxe", "dnsmasq --dry-run", "nfs --dry-run", "http --nginx"),
        *("dhcp-snippet isc", "info", "info --json", "versions", "versions lab --prune"),
    ):
        site.ltsp(*words.split())
    assert (site.tftp / "ltsp/ltsp.img").is_file()


@pytest.mark.oracle
def test_other_sources_are_read_without_extras(site):
    disk, archive = site.home / "disk.img", site.home / "archive.tar"
    subprocess.run(["mkfs.ext4", "-q", "-d", site.base / "lab", disk, "16m"], check=True, capture_output=True)
    subprocess.run(["tar", "-C", site.base / "lab", "-cf", archive, "."], check=True)
    for path, name in ((disk, "disk"), (archive, "archive")):
        site.ltsp("image", f"./{path.name}", "--name", name)
        assert "etc/passwd" in listing(site.image(name))


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("http", "http"),
        ("http --service --dry-run", "http"),
        ("image lab --boot-test=http", "http"),
        ("image lab -m '-comp lz4'", "lz4"),
    ],
)
def test_an_extra_is_asked_for_by_its_name(site, words, extra):
    before = site.everything()
    done = site.ltsp(*shlex.split(words), status=1)
    assert f"pip install 'ltsp[{extra}]'" in done.stderr
    assert site.everything() == before


@pytest.mark.root
def test_a_boot_by_http_asks_for_the_extra(site):
    site.ltsp("image", "lab")
    assert "pip install 'ltsp[http]'" in site.ltsp("boottest", "lab", "--transport=http", status=1).stderr


@pytest.mark.oracle
def test_an_encrypted_disk_asks_for_the_extra(site):
    disk, key = site.home / "disk.img", site.home / "key"
    key.write_bytes(b"secret")
    subprocess.run(["mkfs.ext4", "-q", "-d", site.base / "lab", disk, "16m"], check=True, capture_output=True)
    encrypted(disk, key)
    done = site.ltsp("image", f"--key-file={key}", "./disk.img", "--name=lab", status=1)
    assert "pip install 'ltsp[disk]'" in done.stderr
