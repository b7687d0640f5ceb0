"""What installers of distributions make by default is found whole: the root, /boot, /boot/efi, and the kernel there."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from corpus import format_limits, tree_snapshot
from corpus.default_installs import INSTALLS
from corpus.site import Site
from corpus.system import KERNEL, VERSION, make_system
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.oracle, pytest.mark.root]

EFI = {"boot/efi/EFI/BOOT/BOOTX64.EFI": "MZ", "boot/efi/EFI/distribution/grub.cfg": "set\n"}
OTHERS = {
    "boot/grub2/x86_64-efi/core.efi": "MZ",
    "boot/grub2/i386-pc/core.img": "core",
    "opt/program/run": "run\n",
    "usr/local/bin/local": "#!/bin/sh\n",
    "srv/site/index": "served\n",
    "root/notes": "of root\n",
    "var/lib/state": "state\n" * 5000,
}


@pytest.fixture
def site(tmp_path):
    yield Site.make(tmp_path)
    shutil.rmtree(tmp_path)


def laid_out(install, at):
    """The system that is installed, whole in a directory, and on a disk."""
    whole = make_system(at / "whole", {**EFI, **OTHERS, "etc/os-release": install.release, "etc/fstab": install.fstab})
    (whole / "var/lib/state").chmod(0o600)
    subprocess.run(["cp", "-a", whole, at / "installed"], check=True)
    (at / "made").mkdir()
    return whole, install.make(at / "installed", at / "made")


def of_fat(whole):
    """What is on the EFI partition, as FAT holds it: names and contents."""
    return {
        path: replace(entry, mode=0, uid=0, gid=0, mtime=0) if path.startswith(b"boot/efi") else entry
        for path, entry in whole.items()
    }


def expected_losses(install):
    below = [f"{path}/{name}" for path in install.empty for name in ("alice", ".hidden", "site", "notes")]
    return (
        format_limits.paths("they lie on file systems of their own, and are no part of the system", *below),
        format_limits.Loss("FAT has no owners and modes, and other times", of_fat, varies=True),
        format_limits.Loss(
            "what is mounted over is not looked at",
            lambda whole: {
                path: replace(entry, mtime=0) if path.decode(errors="replace") in install.empty else entry
                for path, entry in whole.items()
            },
            varies=True,
        ),
    )


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        *((name, "user") for name in INSTALLS),
        *(pytest.param(name, "kernel", marks=() if "Fed" in name else pytest.mark.torture) for name in INSTALLS),
    ],
)
def test_the_system_is_put_together_as_it_is_when_it_runs(name, reader, tmp_path):
    install = INSTALLS[name]
    whole, disk = laid_out(install, tmp_path)
    source = find_source(str(disk), "/nowhere", disks=DiskOptions(reader=reader))
    plan = source.plan()
    lost = {part.path for part in plan.left_out if reader == "kernel" and "does not support vfat" in part.reason}
    assert {part.path for part in plan.included} == {"", *install.parts} - lost
    assert f"{install.root} in raw disk" in source.description
    with source.open(select_all, Faults()) as tree:
        expected = [
            *expected_losses(install),
            format_limits.paths("some kernels have no driver", *(f"{one}/EFI" for one in lost)),
        ]
        found = format_limits.differences(tree_snapshot.directory(whole), tree_snapshot.of_tree(tree), expected)
    assert found == []
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", INSTALLS)
def test_a_dry_run_names_the_system_and_its_kernel(name, site):
    install = INSTALLS[name]
    _whole, disk = laid_out(install, site.home)
    [told] = json.loads(site.ltsp("image", "--dry-run", "--json", "--name=lab", str(disk)).stdout)["images"]
    assert install.release.split('"')[1] in told["source"]
    assert f"{install.root} in raw disk" in told["source"]
    assert {part["path"] for part in told["with"]} == {"", *install.parts}
    kernel = {"path": "vmlinuz", "version": VERSION, "initrd": "initrd.img"}
    assert told["kernel"] == {**kernel, "reason": "the system's default", "passed_over": []}
    assert told["reader"] == "user"
    assert told["warnings"] == []


@pytest.mark.parametrize("name", [name for name, install in INSTALLS.items() if install.whole])
def test_the_image_is_that_of_the_same_system_in_a_directory(name, site, tmp_path):
    install = INSTALLS[name]
    whole, disk = laid_out(install, site.home)
    qcow2 = site.base / "lab.img"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, qcow2], check=True)
    fast = ("--ionice=", "-m", "-comp gzip -Xcompression-level 1")
    site.ltsp("image", *fast, "lab")
    site.ltsp("image", *fast, "--name=whole", str(whole))
    found, expected = (tree_snapshot.mounted(site.image(each), tmp_path) for each in ("lab", "whole"))
    assert f"boot/vmlinuz-{VERSION}".encode() in found
    assert format_limits.differences(expected, found, expected_losses(install)) == []
    assert site.kernel("lab").read_bytes() == site.kernel("whole").read_bytes() == KERNEL.encode()
