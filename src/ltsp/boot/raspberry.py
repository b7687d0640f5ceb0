"""What the firmware of a Raspberry Pi fetches: which directory of a system has it, and what in there is for nobody.

raspberrypi.com, documentation/computers: "The boot folder", "config.txt", "Network booting".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from ltsp.errors import LtspError
from ltsp.tree.content import Content
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

DIRECTORIES: Final = (
    "boot/firmware",  # Raspberry Pi OS since 2023 (raspi-firmware of Debian 12), Ubuntu
    "boot",  # Raspberry Pi OS before
)
_FIRMWARE_FILES: Final = ("bootcode.bin", "start*.elf", "config.txt", "kernel*.img")
"""Of which one at least is there: the firmware of each model but the fifth, its settings, its kernels."""
CMDLINE: Final = "cmdline.txt"
_LOCAL: Final = ("PARTUUID=", "UUID=", "LABEL=", "PARTLABEL=", "/dev/mmcblk", "/dev/sd", "/dev/nvme")
"""Beginnings of a root that is on a card or disk of the Pi. Documentation/admin-guide/kernel-parameters.txt of Linux"""
_PRIVATE: Final = frozenset(
    {
        # Raspberry Pi Imager and raspberrypi-sys-mods: what sets the system up when it first boots, with passwords.
        *("firstrun.sh", "userconf", "userconf.txt", "custom.toml", "ssh", "ssh.txt", "wpa_supplicant.conf"),
        # cloud-init, NoCloud: the same of Ubuntu, and of Raspberry Pi OS since 2025.
        *("user-data", "network-config", "meta-data", "vendor-data"),
    }
)


def has_firmware(names: Iterable[str]) -> bool:
    """Whether a directory with these entries is one that a Pi boots from."""
    return any(fnmatchcase(name, sign) for name in names for sign in _FIRMWARE_FILES)


def is_public(path: str) -> bool:
    """Whether a file in that directory may be fetched by anybody."""
    return path not in _PRIVATE


def no_boot_files_error(what: str) -> LtspError:
    """`what` is the image, safe to print."""
    places = " or ".join(f"/{directory}" for directory in DIRECTORIES)
    return LtspError(
        f"no boot files for Raspberry Pis in {what}: looked for {', '.join(_FIRMWARE_FILES)} in {places}",
        "name an image of Raspberry Pi OS with --rpi-image, or leave it and RPI_IMAGE out",
    )


def firmware_files(tree: Tree) -> Mapping[str, Content]:
    """By their paths as the Pi asks for them; empty if there are none. Links are not followed."""
    for path in DIRECTORIES:
        directory = tree.follow(path)
        if isinstance(directory, Directory) and has_firmware(directory.entries):
            files = ((name, node) for name, node in Tree(directory).walk() if isinstance(node, File))
            return {name: node.content for name, node in files if is_public(name)}
    return {}


def find_local_root(cmdline: str) -> str:
    """The root that a cmdline.txt names, where it is on the Pi's own card or disk; else nothing."""
    roots = (word.removeprefix("root=") for word in cmdline.split() if word.startswith("root="))
    return next((root for root in roots if root.startswith(_LOCAL)), "")
