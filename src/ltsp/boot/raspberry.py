"""The files that the firmware of a Raspberry Pi fetches: their directory in a system, and which of them are private.

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

FIRMWARE_DIRECTORIES: Final = (
    "boot/firmware",  # Raspberry Pi OS since 2023 (raspi-firmware of Debian 12), Ubuntu
    "boot",  # Raspberry Pi OS before
)
_FIRMWARE_FILES: Final = ("bootcode.bin", "start*.elf", "config.txt", "kernel*.img")
"""At least one of these exists: the firmware of each model except the Pi 5, its settings, its kernels."""
CMDLINE_FILE: Final = "cmdline.txt"
_LOCAL_ROOT_PREFIXES: Final = ("PARTUUID=", "UUID=", "LABEL=", "PARTLABEL=", "/dev/mmcblk", "/dev/sd", "/dev/nvme")
"""Prefixes of a root on the Pi's own card or disk. Documentation/admin-guide/kernel-parameters.txt of Linux"""
_PRIVATE_FILES: Final = frozenset(
    {
        # Raspberry Pi Imager and raspberrypi-sys-mods: settings for the first boot, with passwords.
        *("firstrun.sh", "userconf", "userconf.txt", "custom.toml", "ssh", "ssh.txt", "wpa_supplicant.conf"),
        # cloud-init, NoCloud: the same for Ubuntu, and for Raspberry Pi OS since 2025.
        *("user-data", "network-config", "meta-data", "vendor-data"),
    }
)


def has_firmware(names: Iterable[str]) -> bool:
    """Whether a Pi can boot from a directory with these entries."""
    return any(fnmatchcase(name, pattern) for name in names for pattern in _FIRMWARE_FILES)


def is_public(path: str) -> bool:
    """Whether anybody may fetch this file of the directory."""
    return path not in _PRIVATE_FILES


def no_boot_files_error(image: str) -> LtspError:
    """`image` is the image, safe to print."""
    paths = " or ".join(f"/{directory}" for directory in FIRMWARE_DIRECTORIES)
    return LtspError(
        f"no boot files for Raspberry Pis in {image}: looked for {', '.join(_FIRMWARE_FILES)} in {paths}",
        "name an image of Raspberry Pi OS with --rpi-image, or remove --rpi-image and RPI_IMAGE",
    )


def find_firmware_files(tree: Tree) -> Mapping[str, Content]:
    """The public files by the paths that the Pi requests; empty if there are none. Links are not followed."""
    for path in FIRMWARE_DIRECTORIES:
        directory = tree.follow(path)
        if isinstance(directory, Directory) and has_firmware(directory.entries):
            files = ((name, node) for name, node in Tree(directory).walk() if isinstance(node, File))
            return {name: node.content for name, node in files if is_public(name)}
    return {}


def find_local_root(cmdline: str) -> str:
    """The root in a cmdline.txt, if it is on the Pi's own card or disk; else empty."""
    roots = (word.removeprefix("root=") for word in cmdline.split() if word.startswith("root="))
    return next((root for root in roots if root.startswith(_LOCAL_ROOT_PREFIXES)), "")
