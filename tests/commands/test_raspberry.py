"""Raspberry Pis boot an image made from a chroot, or from a downloaded disk image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from corpus.disks import ext4, moved, partitioned
from corpus.site import Site
from corpus.system import VERSION, make_system

pytestmark = pytest.mark.oracle

CARD = "root=PARTUUID=5452574f-02"
FIRMWARE = {
    "bootcode.bin": "b",
    "start4.elf": "s",
    "fixup4.dat": "f",
    "config.txt": "arm_64bit=1\n",
    "cmdline.txt": f"console=tty1 {CARD} rootfstype=ext4 fsck.repair=yes rootwait\n",
    "kernel8.img": "k",
    "initramfs8": "i",
    "bcm2711-rpi-4-b.dtb": "d",
    "overlays/vc4.dtbo": "o",
}
IN_SYSTEM = {f"boot/firmware/{path}": text for path, text in FIRMWARE.items()}
FAST = ("--ionice=", "-m", "-comp gzip -Xcompression-level 1", "--no-preflight")


@pytest.fixture
def site(tmp_path):
    return Site.make(tmp_path)


def served(site):
    return {path: (site.tftp / path).read_text() for path in FIRMWARE if (site.tftp / path).exists()}


def downloaded(site):
    """As pi-gen makes it: a FAT of the firmware, and the root, whose fstab names both by the disk's identifier."""
    system = make_system(
        site.home / "system",
        IN_SYSTEM
        | {
            "etc/fstab": "proc /proc proc defaults 0 0\n"
            "PARTUUID=5452574f-01  /boot/firmware  vfat    defaults          0       2\n"
            "PARTUUID=5452574f-02  /               ext4    defaults,noatime  0       1\n"
        },
    )
    firmware, fat = moved(system, "boot/firmware", site.home / "firmware"), site.home / "bootfs"
    words = ["mkfs.vfat", "-C", "-F", "32", "-s", "1", "-n", "bootfs", fat, str(36 << 10)]
    subprocess.run(words, check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-i", fat, *firmware.iterdir(), "::"], check=True)
    root = ext4(site.home / "rootfs", system)
    disk = partitioned(site.base / "raspios.img", "dos", [("type=c", fat), ("type=83", root)])
    subprocess.run(["sfdisk", "-q", "--disk-id", disk, "0x5452574f"], check=True)
    return disk


def test_the_version_of_a_downloaded_disk_contains_its_firmware(site):
    downloaded(site)
    done = site.ltsp("image", *FAST, "--rpi-image=raspios", "raspios")
    assert served(site) == FIRMWARE
    assert f"{site.tftp}/cmdline.txt has {CARD}, which is on the card or disk" in done.stderr
    current = (site.tftp / "ltsp/raspios/current").resolve()
    assert (site.tftp / "kernel8.img").resolve() == current / "firmware/kernel8.img"
    assert "firmware" not in (site.tftp / "ltsp/raspios/boot.ipxe").read_text()
    assert "unchanged raspios" in site.ltsp("image", *FAST, "--rpi-image=raspios", "raspios").stdout
    (site.base / "raspios.img").unlink()
    site.ltsp("kernel", "--no-preflight", "--rpi-image=raspios", "raspios")
    assert served(site) == FIRMWARE


def test_a_custom_cmdline_txt_is_kept(site):
    downloaded(site)
    (site.tftp / "cmdline.txt").write_text("root=/dev/nfs\n")
    done = site.ltsp("image", *FAST, "--rpi-image=raspios", "raspios")
    assert served(site) == {**FIRMWARE, "cmdline.txt": "root=/dev/nfs\n"}
    assert "cmdline.txt was not created by ltsp, so it was kept" in done.stderr
    assert "has root=" not in done.stderr


def test_a_chroot_is_linked_so_edits_of_cmdline_txt_apply_immediately(site):
    site.system("raspios", IN_SYSTEM)
    site.ltsp("image", *FAST, "--rpi-image=raspios", "raspios")
    (site.base / "raspios/boot/firmware/cmdline.txt").write_text("root=/dev/nfs\n")
    assert served(site) == {**FIRMWARE, "cmdline.txt": "root=/dev/nfs\n"}
    assert not (site.tftp / "ltsp/raspios/current/firmware").exists()
    site.ltsp("image", *FAST, "--name=other", str(site.base / "raspios"))  # not the Pis' image
    done = site.ltsp("kernel", "--no-preflight", "--rpi-image=raspios", "raspios")
    assert "has root=" not in done.stderr


@pytest.mark.parametrize("kind", ["chroot", "disk"])
def test_an_image_without_pi_firmware_is_refused_before_the_build(site, kind):
    system = site.system("lab")
    if kind == "disk":
        ext4(site.base / "lab.img", system)
        shutil.rmtree(system)
    before = site.everything()
    done = site.ltsp("image", *FAST, "--rpi-image=lab", "lab", status=1)
    assert "no boot files for Raspberry Pis in " in done.stderr
    assert "--rpi-image" in done.stderr
    assert "writing the image" not in done.stderr
    assert not site.image("lab").exists()
    assert {path for path in before if path.startswith(str(site.tftp))} == {
        path for path in site.everything() if path.startswith(str(site.tftp)) and "/.lab" not in path
    }
    site.system("raspios", IN_SYSTEM)
    site.ltsp("image", *FAST, "--rpi-image=raspios", "lab")


@pytest.mark.parametrize("by", ["option", "ltsp.conf"])
@pytest.mark.parametrize("applet", ["image", "kernel"])
def test_a_missing_image_is_warned_of_and_builds_go_on(site, applet, by):
    """On a new server with an old ltsp.conf it may be the next to be built."""
    site.system("lab")
    site.system("raspios", IN_SYSTEM)
    if applet == "kernel":
        site.ltsp("image", *FAST, "lab")
    option = ["--rpi-image=raspois"] if by == "option" else []
    site.conf.write_text("" if option else "[server]\nRPI_IMAGE=raspois\n")
    done = site.ltsp(applet, "--no-preflight", *option, "lab")
    assert "no image 'raspois' for Raspberry Pis yet (RPI_IMAGE or --rpi-image)" in done.stderr
    assert "known images: lab, raspios; did you mean raspios?" in done.stderr
    assert site.image("lab").exists()


def test_published_and_renamed_images_are_known(site):
    make_system(site.home / "raspios", IN_SYSTEM)
    site.system("lab")
    site.ltsp("image", *FAST, "--rpi-image=pi", "--name=pi", "./raspios")
    assert served(site) == FIRMWARE
    site.ltsp("kernel", "--no-preflight", "--rpi-image=pi", "lab")


def test_the_plan_names_the_kernel_of_the_pi_s_system(site):
    site.system("raspios", IN_SYSTEM)
    done = json.loads(site.ltsp("image", "--dry-run", "--json", "raspios").stdout)
    assert done["images"][0]["kernel"]["version"] == VERSION


@pytest.mark.parametrize("kind", ["chroot", "file"])
def test_removing_an_image_removes_the_links_of_pis(site, kind):
    if kind == "chroot":
        site.system("raspios", IN_SYSTEM)
        source = "raspios"
    else:
        source = str(site.home / "raspios.tar")
        subprocess.run(["tar", "-cf", source, "-C", make_system(site.home / "system", IN_SYSTEM), "."], check=True)
    (site.tftp / "own.txt").write_text("ours")
    site.ltsp("image", *FAST, "--rpi-image=raspios", source)
    assert served(site) == FIRMWARE
    site.ltsp("versions", "raspios", "--remove-all")
    assert sorted(os.listdir(site.tftp)) == ["ltsp", "own.txt"]
    assert os.listdir(site.tftp / "ltsp") == []


def test_an_old_version_with_firmware_is_removed(site):
    for text in ("first", "second"):
        system = make_system(site.home / text, {**IN_SYSTEM, "etc/motd": text})
        subprocess.run(["tar", "-cf", site.home / "raspios.tar", "-C", system, "."], check=True)
        site.ltsp("image", *FAST, "--rpi-image=raspios", str(site.home / "raspios.tar"))
    site.ltsp("versions", "raspios", "--prune", "--keep=1", "--keep-days=0")
    assert len(json.loads(site.ltsp("versions", "raspios", "--json").stdout)["raspios"]["versions"]) == 1
