"""The setup of a fresh machine with a fake apt: what it installs, in which order, and what it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent.parent / "tools/setup.sh"
PACKAGES = re.findall(r"^([a-z0-9+-]+) +(\S+)$", SETUP.read_text(), re.MULTILINE)
PROGRAMS = {
    # Programs that stand for packages are all there; the state of a package is what `installed` says.
    "dpkg-query": 'for last; do :; done; grep -qxF "$last" "$STATE/installed" && printf installed',
    "apt-get": """
        for word; do case $word in update | install) verb=$word ;; esac; done
        printf '%s\\n' "$verb" >>"$STATE/calls"
        if [ -e "$STATE/$verb-fails" ]; then
            echo "E: $(cat "$STATE/$verb-fails")"
            exit 100
        fi
        seq -f 'Unpacking %g' 1300
        if [ "$verb" = install ]; then printf '%s\\n' "$@" >>"$STATE/installed"; fi
    """,
    "id": "echo 0",
    "systemctl": "",
    "python3": """
        [ "$1 $2" = "-m venv" ] || exit 0
        mkdir -p .venv/bin
        printf '#!/bin/sh\\ntouch .venv/bin/ltsp; chmod 755 .venv/bin/ltsp\\n' >.venv/bin/pip
        chmod 755 .venv/bin/pip
    """,
}


@pytest.fixture
def machine(tmp_path):
    """A checkout and programs of a machine that has all packages but those that a test takes from it."""
    for name in ("tools", "requirements", "bin", "state"):
        (tmp_path / name).mkdir()
    shutil.copy(SETUP, tmp_path / "tools/setup.sh")
    (tmp_path / "requirements/dev.txt").touch()
    (tmp_path / "pyproject.toml").touch()
    named = [proof for _, proof in PACKAGES if re.fullmatch(r"[a-z0-9_.-]+", proof) and proof != "-"]
    for name, text in {**dict.fromkeys(named, ""), **PROGRAMS}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    states = [package for package, proof in PACKAGES if proof == "-"]
    (tmp_path / "state/installed").write_text("\n".join(states) + "\n")
    (tmp_path / "state/calls").touch()
    return tmp_path


def set_up(machine):
    environment = {"PATH": f"{machine}/bin:/usr/bin:/bin", "STATE": str(machine / "state"), "HOME": os.fspath(machine)}
    done = subprocess.run(
        ["tools/setup.sh"], cwd=machine, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done, (machine / "state/calls").read_text().split()


def take(machine, *packages):
    installed = machine / "state/installed"
    installed.write_text("".join(f"{line}\n" for line in installed.read_text().split() if line not in packages))


def test_a_machine_with_all_packages_asks_apt_for_nothing(machine):
    done, calls = set_up(machine)
    assert (done.returncode, calls) == (0, []), done.stderr


def test_no_package_is_proved_by_a_path():
    """Debian 12 has the ROMs of ipxe-qemu elsewhere than Debian 13."""
    assert len(PACKAGES) > 40
    assert not [package for package, proof in PACKAGES if "/" in proof]


@pytest.mark.root
def test_the_lists_are_fetched_before_a_package_is_asked_for_and_what_apt_says_goes_to_a_log(machine):
    take(machine, "ipxe-qemu", "ovmf")
    done, calls = set_up(machine)
    assert (done.returncode, calls) == (0, ["update", "install"]), done.stderr
    assert done.stdout.startswith("setup: installing 2 packages")
    assert len(done.stdout.splitlines()) <= 4
    assert done.stderr == ""
    assert (machine / "build/apt.log").read_text().count("Unpacking") == 2600
    assert {"ipxe-qemu", "ovmf"} <= set((machine / "state/installed").read_text().split())


@pytest.mark.root
def test_third_party_lists_that_cannot_be_fetched_are_ignored(machine):
    take(machine, "ovmf")
    (machine / "state/update-fails").write_text("the vendor's key has expired")
    done, calls = set_up(machine)
    assert (done.returncode, calls) == (0, ["update", "install"]), done.stderr


@pytest.mark.root
def test_a_failure_is_tried_twice_and_ends_with_one_line(machine):
    take(machine, "ovmf")
    (machine / "state/install-fails").write_text("Unable to locate package ovmf")
    done, calls = set_up(machine)
    assert (done.returncode, calls) == (1, ["update", "install"] * 2)
    assert done.stderr == (
        "setup: apt-get cannot install the packages: E: Unable to locate package ovmf; see build/apt.log\n"
    )


@pytest.mark.root
def test_what_is_still_missing_afterwards_is_named(machine):
    script = machine / "tools/setup.sh"
    script.write_text(re.sub(r"(?m)^zsh +zsh$", "zsh zsh-is-not-here", script.read_text()))
    done, _ = set_up(machine)
    assert done.returncode == 1
    assert done.stderr == "setup: still missing after apt-get install: zsh (see build/apt.log)\n"
