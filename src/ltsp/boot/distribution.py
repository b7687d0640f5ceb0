"""The distribution of an image, and which of its packages provide what a client needs. os-release(5)"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import Enum
from typing import Final

from ltsp.boot.kernel_header import CLOUD_FLAVOURS
from ltsp.errors import FormatError
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

_MAX_OS_RELEASE_SIZE: Final = 1 << 20
"""Maximum bytes of os-release."""


class Distribution(Enum):
    """Distributions whose packages are known here; derivatives count as their ID_LIKE."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    FEDORA = "fedora"
    SUSE = "suse"
    ARCH = "arch"
    ALPINE = "alpine"
    OTHER = "other"


_DISTRIBUTIONS_BY_ID: Final[Mapping[str, Distribution]] = {
    **{distribution.value: distribution for distribution in Distribution},
    "raspbian": Distribution.DEBIAN,
    "rhel": Distribution.FEDORA,
    "centos": Distribution.FEDORA,
    "opensuse": Distribution.SUSE,
    "opensuse-leap": Distribution.SUSE,
    "opensuse-tumbleweed": Distribution.SUSE,
    "sles": Distribution.SUSE,
}
NBD_CLIENT_PACKAGES: Final[Mapping[Distribution, str]] = {
    Distribution.DEBIAN: "nbd-client",
    Distribution.UBUNTU: "nbd-client",
    Distribution.ALPINE: "nbd-client",
    Distribution.FEDORA: "nbd",
    Distribution.SUSE: "nbd",
    Distribution.ARCH: "nbd",
}
"""The package that contains the program."""
_INSTALL_COMMANDS: Final[Mapping[Distribution, tuple[str, str]]] = {
    Distribution.DEBIAN: ("apt-get update && apt-get install -y {kernel}", "systemd-sysv"),
    Distribution.UBUNTU: ("apt-get update && apt-get install -y linux-image-generic", "systemd-sysv"),
    Distribution.FEDORA: ("dnf install -y kernel", "systemd"),
    Distribution.SUSE: ("zypper --non-interactive install kernel-default", "systemd-sysvinit"),
    Distribution.ARCH: ("pacman -Syu --noconfirm linux", "systemd-sysvcompat"),
    Distribution.ALPINE: ("apk add linux-lts", "openrc"),
}
"""The command that installs a kernel, and the package of /sbin/init; container images have neither."""
_REINSTALL_COMMANDS: Final[Mapping[Distribution, str]] = {
    Distribution.DEBIAN: "apt-get install --reinstall linux-image-{version}",
    Distribution.UBUNTU: "apt-get install --reinstall linux-image-{version}",
    Distribution.FEDORA: "dnf reinstall kernel-core-{version}",
    Distribution.SUSE: "zypper install --force kernel-default",
    Distribution.ARCH: "pacman -S linux",
    Distribution.ALPINE: "apk fix linux-lts",
}
"""The command that reinstalls the kernel of a version whose file is damaged."""
_DEBIAN_KERNELS: Final = {3: "686", 40: "armmp", 62: "amd64", 183: "arm64", 243: "riscv64"}
"""Names of Debian's kernels, by e_machine of elf(5); each kernel package also provides `generic`."""
_CLOUD_SUFFIXES: Final = tuple(f"-{name}" for name in CLOUD_FLAVOURS)
"""Suffixes of Ubuntu's kernels for virtual machines."""


def detect_distribution(tree: Tree) -> Distribution:
    for path in ("etc/os-release", "usr/lib/os-release"):
        file = tree.follow(path)
        if isinstance(file, File):
            values = _read_os_release(file, path)
            names = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
            return next(
                (_DISTRIBUTIONS_BY_ID[name] for name in names if name in _DISTRIBUTIONS_BY_ID), Distribution.OTHER
            )
    return Distribution.OTHER


def suggest_kernel_package(distribution: Distribution, version: str) -> str:
    """What to install for the modules that a kernel of this version lacks, as words that follow `install`."""
    match distribution:
        case Distribution.DEBIAN if "-cloud-" in version:
            architecture = version.rpartition("-")[2]
            return f"linux-image-{architecture} in place of linux-image-cloud-{architecture}"
        case Distribution.DEBIAN:
            return f"linux-image-{version} (reinstall it if it is installed)"
        case Distribution.UBUNTU if version.endswith(_CLOUD_SUFFIXES):
            return "linux-image-generic in place of the kernel for virtual machines"
        case Distribution.UBUNTU:
            return f"linux-modules-extra-{version}"
        case Distribution.FEDORA:
            return f"kernel-modules-{version} and kernel-modules-extra-{version}"
        case Distribution.SUSE:
            return "kernel-default in place of kernel-default-base"
        case Distribution.ARCH:
            return f"the kernel's package again, so that kernel and modules are both {version}"
        case Distribution.ALPINE if version.endswith("-virt"):
            return "linux-lts in place of linux-virt"
        case Distribution.ALPINE | Distribution.OTHER:
            return f"all modules of kernel {version}"


def kernel_reinstall_command(distribution: Distribution, version: str | None) -> str:
    """The command that reinstalls a kernel whose file is damaged; empty if unknown."""
    return _REINSTALL_COMMANDS.get(distribution, "").format(version=version) if version else ""


def kernel_install_command(tree: Tree) -> str:
    """The command that installs a kernel, and an init if that is missing too; empty for an unknown distribution."""
    command, init = _INSTALL_COMMANDS.get(detect_distribution(tree), ("", ""))
    if not command:
        return ""
    command = command.format(kernel=f"linux-image-{_DEBIAN_KERNELS.get(_read_elf_machine(tree), 'generic')}")
    return command if tree.follow("sbin/init") else f"{command} {init}"


def _read_elf_machine(tree: Tree) -> int:
    """e_machine of the system's shell; 0 if unknown."""
    shell = tree.follow("bin/sh")
    if not isinstance(shell, File):
        return 0
    try:
        with shell.content.open() as stream:
            head = stream.read(20)
    except (OSError, FormatError):
        return 0
    return int.from_bytes(head[18:20], "little") if head.startswith(b"\x7fELF") else 0


def _read_os_release(file: File, path: str) -> dict[str, str]:
    try:
        lines = decode(read_small_file(file, path, _MAX_OS_RELEASE_SIZE)).splitlines()
    except (OSError, FormatError):
        return {}
    values = {}
    for line in lines:
        key, equals, text = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = " ".join(shlex.split(text))
            except ValueError:
                continue  # an unbalanced quote
    return values
