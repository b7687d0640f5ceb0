from __future__ import annotations

import os

import pytest

from ltsp.build.raspberry import link_boot_files
from ltsp.errors import LtspError


@pytest.fixture
def boot(tmp_path):
    directory = tmp_path / "srv" / "raspios" / "boot"
    (directory / "overlays").mkdir(parents=True)
    (directory / "kernel8.img").write_bytes(b"kernel")
    (directory / "overlays" / "vc4.dtbo").write_bytes(b"overlay")
    (tmp_path / "tftp").mkdir()
    return directory


def link(tmp_path, name="raspios"):
    return link_boot_files(str(tmp_path / "srv"), str(tmp_path / "tftp"), name)


def test_the_files_of_boot_are_found_at_the_top_of_the_tftp_directory(tmp_path, boot):
    assert link(tmp_path).links == ("kernel8.img", "overlays/vc4.dtbo")
    assert (tmp_path / "tftp" / "kernel8.img").read_bytes() == b"kernel"
    assert os.readlink(tmp_path / "tftp" / "overlays" / "vc4.dtbo") == str(boot / "overlays" / "vc4.dtbo")


def test_links_of_earlier_runs_that_lead_nowhere_are_removed(tmp_path, boot):
    link(tmp_path)
    (boot / "kernel8.img").rename(boot / "kernel9.img")
    assert link(tmp_path).links == ("kernel9.img", "overlays/vc4.dtbo")
    assert not os.path.lexists(tmp_path / "tftp" / "kernel8.img")


def test_links_of_others_stay(tmp_path, boot):
    os.symlink("/nowhere", tmp_path / "tftp" / "theirs")
    assert boot
    link(tmp_path)
    assert os.path.lexists(tmp_path / "tftp" / "theirs")


def test_another_image_takes_the_links_over(tmp_path, boot):
    link(tmp_path)
    boot.parent.rename(tmp_path / "srv" / "other")
    link(tmp_path, "other")
    assert "/other/" in os.readlink(tmp_path / "tftp" / "kernel8.img")


@pytest.mark.usefixtures("boot")
def test_a_file_of_somebody_else_stays_and_is_named(tmp_path):
    (tmp_path / "tftp" / "kernel8.img").write_bytes(b"theirs")
    linked = link(tmp_path)
    assert linked.foreign_paths == ("kernel8.img",)
    assert (tmp_path / "tftp" / "kernel8.img").read_bytes() == b"theirs"


def test_a_link_in_the_chroot_serves_no_file_of_the_server(tmp_path, boot):
    """A chroot with boot/shadow -> /etc/shadow would have the server's file served by TFTP."""
    os.symlink("/etc/shadow", boot / "shadow")
    os.symlink("/etc", boot / "etc")
    link(tmp_path)
    assert sorted(os.listdir(tmp_path / "tftp")) == ["kernel8.img", "overlays"]


def test_a_boot_directory_that_is_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "srv" / "raspios").mkdir(parents=True)
    os.symlink("/etc", tmp_path / "srv" / "raspios" / "boot")
    with pytest.raises(LtspError, match=r"cannot serve .*raspios/boot"):
        link(tmp_path)


def test_since_2023_they_are_in_boot_firmware_and_nothing_else_is_linked(tmp_path, boot):
    link(tmp_path)
    firmware = boot / "firmware"
    (firmware / "overlays").mkdir(parents=True)
    for name in ("start4.elf", "config.txt", "overlays/vc4.dtbo"):
        (firmware / name).write_text(name)
    (boot / "kernel8.img").rename(boot / "vmlinuz-6.6.31+rpt-rpi-v8")
    assert link(tmp_path).links == ("config.txt", "overlays/vc4.dtbo", "start4.elf")
    assert sorted(os.listdir(tmp_path / "tftp")) == ["config.txt", "overlays", "start4.elf"]
    assert (tmp_path / "tftp/overlays/vc4.dtbo").read_text() == "overlays/vc4.dtbo"


def test_first_boot_settings_are_not_served(tmp_path, boot):
    """The Imager writes passwords of users and of the Wi-Fi next to the firmware."""
    for name in ("firstrun.sh", "userconf.txt", "user-data", "network-config", "wpa_supplicant.conf"):
        (boot / name).write_text("secret")
    assert link(tmp_path).links == ("kernel8.img", "overlays/vc4.dtbo")


def test_a_chroot_of_another_computer_is_refused(tmp_path, boot):
    (boot / "kernel8.img").rename(boot / "vmlinuz-6.1.0-18-amd64")
    with pytest.raises(LtspError, match=r"no boot files for Raspberry Pis in .*raspios: looked for bootcode\.bin"):
        link(tmp_path)
    assert os.listdir(tmp_path / "tftp") == []


@pytest.mark.usefixtures("boot")
def test_without_a_chroot_the_links_lead_to_the_current_version_wherever_the_directory_is_served_from(tmp_path):
    link(tmp_path)
    current = tmp_path / "tftp/ltsp/pi/current/firmware"
    (current / "overlays").mkdir(parents=True)
    (current / "overlays/vc4.dtbo").write_text("of the version")
    published = ("vmlinuz", "firmware/config.txt", "firmware/overlays/vc4.dtbo")
    linked = link_boot_files(str(tmp_path / "srv"), str(tmp_path / "tftp"), "pi", published)
    assert linked.links == ("config.txt", "overlays/vc4.dtbo")
    assert os.readlink(tmp_path / "tftp/overlays/vc4.dtbo") == "../ltsp/pi/current/firmware/overlays/vc4.dtbo"
    assert (tmp_path / "tftp/overlays/vc4.dtbo").read_text() == "of the version"
    assert not os.path.lexists(tmp_path / "tftp/kernel8.img")
    with pytest.raises(LtspError, match="no boot files for Raspberry Pis in pi: "):
        link_boot_files(str(tmp_path / "srv"), str(tmp_path / "tftp"), "pi", ("vmlinuz",))
    assert link(tmp_path).links == ("kernel8.img", "overlays/vc4.dtbo")
