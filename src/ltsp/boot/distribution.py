"""Which distribution an image is of, and the packages of it that bring what a client needs. os-release(5)"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import Enum
from typing import Final

from ltsp.errors import FormatError
from ltsp.tree.name import decode
from ltsp.tree.node import File
from ltsp.tree.small import read_small
from ltsp.tree.tree import Tree

_MOST: Final = 1 << 20
"""Bytes of os-release."""


class Distribution(Enum):
    """Those whose packages are known here; derivatives count as what they are like."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    FEDORA = "fedora"
    SUSE = "suse"
    ARCH = "arch"
    ALPINE = "alpine"
    OTHER = "other"


_BY_ID: Final[Mapping[str, Distribution]] = {
    **{distribution.value: distribution for distribution in Distribution},
    "raspbian": Distribution.DEBIAN,
    "rhel": Distribution.FEDORA,
    "centos": Distribution.FEDORA,
    "opensuse": Distribution.SUSE,
    "opensuse-leap": Distribution.SUSE,
    "opensuse-tumbleweed": Distribution.SUSE,
    "sles": Distribution.SUSE,
}
NBD_CLIENT: Final[Mapping[Distribution, str]] = {
    Distribution.DEBIAN: "nbd-client",
    Distribution.UBUNTU: "nbd-client",
    Distribution.ALPINE: "nbd-client",
    Distribution.FEDORA: "nbd",
    Distribution.SUSE: "nbd",
    Distribution.ARCH: "nbd",
}
"""The package that has the program."""
_FLAVOURS: Final = ("-kvm", "-virtual", "-aws", "-azure", "-gcp", "-gke", "-oracle", "-ibm")
"""Of Ubuntu's kernels for machines without real hardware."""


def distribution_of(tree: Tree) -> Distribution:
    for path in ("etc/os-release", "usr/lib/os-release"):
        file = tree.follow(path)
        if isinstance(file, File):
            values = _values(file, path)
            names = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
            return next((_BY_ID[name] for name in names if name in _BY_ID), Distribution.OTHER)
    return Distribution.OTHER


def kernel_package(distribution: Distribution, version: str) -> str:
    """What brings the modules that a kernel of this version lacks, as words that follow `install`."""
    match distribution:
        case Distribution.DEBIAN if "-cloud-" in version:
            architecture = version.rpartition("-")[2]
            return f"linux-image-{architecture} in place of linux-image-cloud-{architecture}"
        case Distribution.DEBIAN:
            return f"linux-image-{version}, again if it is there"
        case Distribution.UBUNTU if version.endswith(_FLAVOURS):
            return "linux-image-generic in place of the kernel for virtual machines"
        case Distribution.UBUNTU:
            return f"linux-modules-extra-{version}"
        case Distribution.FEDORA:
            return f"kernel-modules-{version} and kernel-modules-extra-{version}"
        case Distribution.SUSE:
            return "kernel-default in place of kernel-default-base"
        case Distribution.ARCH:
            return f"the kernel's package again: modules and kernel must both be of {version}"
        case Distribution.ALPINE if version.endswith("-virt"):
            return "linux-lts in place of linux-virt"
        case Distribution.ALPINE | Distribution.OTHER:
            return f"all modules of kernel {version}"


def _values(file: File, path: str) -> dict[str, str]:
    try:
        lines = decode(read_small(file, path, _MOST)).splitlines()
    except (OSError, FormatError):
        return {}  # what cannot be read says nothing
    values = {}
    for line in lines:
        key, equals, text = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                values[key] = " ".join(shlex.split(text))
            except ValueError:
                continue  # a quote without its other one
    return values
