"""CHROOTLESS and EXAMPLES of ltsp-image(8), as they are written, on a machine of the test's own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from corpus.running_system import file_system, run_chrootless
from corpus.site import Site, listing
from corpus.system import VERSION, make_system

pytestmark = [pytest.mark.oracle, pytest.mark.root]

MACHINE = os.uname().machine


@dataclass
class Machine:
    """A system whose /boot, /usr, /home and /opt are file systems of their own."""

    lower: Path
    scratch: Path
    file_systems: dict[str, Path]

    def run(self, script):
        """What the script leaves below /srv is kept in `out`."""
        keep = f'mkdir {self.scratch}/out; cp -a "$root/srv/." {self.scratch}/out'
        done = run_chrootless(self.lower, self.scratch, self.file_systems, f"{script}\n{keep}\n")
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def image(self, name=MACHINE):
        return self.scratch / f"out/ltsp/images/{name}.img"


@pytest.fixture
def machine(tmp_path):
    system = make_system(tmp_path / "system", {"opt/vendor/tool": "a tool\n", "etc/ltsp/ltsp.conf": ""})
    (system / "srv/ltsp").mkdir()
    (system / "srv/tftp").mkdir()
    file_systems = {}
    for name in ("boot", "usr", "home", "opt"):
        file_systems[name] = file_system(tmp_path / f"{name}.ext4", system / name, 16)
        shutil.rmtree(system / name)
        (system / name).mkdir()
    return Machine(system, tmp_path, file_systems)


def test_the_server_itself_becomes_the_image_named_after_the_architecture(machine):
    """`ltsp image /`"""
    done = machine.run("ltsp image -i '' /")
    found = listing(machine.image())
    assert {f"boot/vmlinuz-{VERSION}", "usr/bin/tool", "opt/vendor/tool"} <= found
    assert "home/alice" not in found
    assert not [path for path in found if path.startswith("srv/")]
    assert "without   /home" in done.stdout
    assert (machine.scratch / f"out/tftp/ltsp/{MACHINE}/vmlinuz").exists()


def test_separate_boot_and_opt_partitions_may_be_named_as_for_older_versions(machine):
    """`ltsp image /,,/boot,subdir=boot,,/opt,subdir=opt`"""
    machine.run("ltsp image -i '' /,,/boot,subdir=boot,,/opt,subdir=opt")
    assert {f"boot/vmlinuz-{VERSION}", "usr/bin/tool", "opt/vendor/tool"} <= listing(machine.image())


def test_a_link_to_the_root_names_the_image(machine):
    """`ln -s / ~/amd64`, then `ltsp image ~/amd64`"""
    (machine.lower / "root/amd64").symlink_to("/")
    machine.run("ltsp image -i '' /root/amd64")
    assert "usr/bin/tool" in listing(machine.image("amd64"))


def test_the_running_system_goes_back_to_the_version_before(machine):
    """`ltsp image -r /`"""
    machine.run(
        """
        ltsp image -i '' /
        echo new > "$root/etc/motd"
        ltsp image -i '' /
        ltsp image -r /
        """
    )
    assert "etc/motd" not in listing(machine.image())
    assert "etc/motd" in listing(Path(f"{machine.image()}.old"))


def test_without_cleanup_and_excludes_only_output_and_foreign_file_systems_are_missing(machine):
    """`--cleanup=0` and an empty /etc/ltsp/image.excludes"""
    (machine.lower / "etc/ltsp/image.excludes").write_text("")
    paths = f'(cd "$root" && find . -mindepth 1 | cut -c3-) > {machine.scratch}/paths'
    machine.run(f"ltsp image -i '' --cleanup=0 /\n{paths}")
    there = set((machine.scratch / "paths").read_text().splitlines())
    missing = there - listing(machine.image())
    left_out = ("home/", "proc/", "run/", "srv/ltsp", "srv/tftp")
    assert {path for path in missing if not path.startswith(left_out)} == set()
    assert {path for path in there if path.startswith(left_out)} == missing


def test_ionice_is_disabled_for_a_chroot_by_its_name(tmp_path):
    """`ltsp image --ionice="" x86_64`"""
    site = Site.make(tmp_path)
    site.system("x86_64")
    site.ltsp("image", "--ionice=", "x86_64")
    assert "etc/passwd" in listing(site.image("x86_64"))
