"""Versions in the names of kernels, and their order: 6.10 comes after 6.9, and a release after its candidates.

Of the kernels of one release, the one for ordinary computers comes last.
"""

from __future__ import annotations

import re

from ltsp.boot.kernel_rules import KERNEL_NAME

CLOUD_FLAVOURS = ("kvm", "virtual", "aws", "azure", "gcp", "gke", "oracle", "ibm")
"""Suffixes of Ubuntu's kernels for virtual machines. linux-meta"""
_SPECIAL = (
    *("cloud", "rt", "dbg"),  # Debian, debian/config: for virtual machines, real time, debuggers
    *CLOUD_FLAVOURS,
    *("realtime", "64k"),  # Ubuntu, linux-meta
    *("debug", "16k", "64k-debug", "rt-debug"),  # Fedora and RHEL, redhat/kernel.spec.template
    "virt",  # Alpine, main/linux-lts
    "2712",  # Raspberry Pi OS: for the fifth model alone
)
"""Suffixes and parts of versions of kernels that are not for ordinary computers."""
_PRERELEASE = re.compile(rf"[-._~]?(rc\d)|\.(old)$|[-+]({'|'.join(_SPECIAL)})(?=[-+]|$)")
"""Marks of versions that sort before the same version without the mark."""
_RUN = re.compile(r"\d+|\D")

VersionKey = tuple[tuple[int, int], ...]


def version_key(version: str) -> VersionKey:
    """The key that sorts versions from old to new, of Debian, rpm and the kernel itself.

    A run of digits counts as a number; `~` and pre-release marks sort before the end, a revision right after it, then
    letters, then other characters.
    deb-version(7)
    """
    marked = _PRERELEASE.sub(lambda match: "~" + (match[1] or match[2] or match[3]), version)
    return (*(_rank(run) for run in _RUN.findall(marked)), (1, 0))


def _rank(run: str) -> tuple[int, int]:
    if run == "~":
        return 0, 0
    if run == "-":
        return 1, 1  # what follows is a revision
    if run.isdigit():
        return 4, int(run[:30])
    return (2, ord(run)) if run.isalpha() else (3, ord(run))


def version_in_name(path: str) -> str | None:
    """The version at the end of a kernel's name."""
    match = KERNEL_NAME.fullmatch(path.rpartition("/")[2])
    return None if match is None else match[1]
