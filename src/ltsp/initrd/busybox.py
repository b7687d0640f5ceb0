"""The static busybox that a client's initrd runs on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError, LtspError
from ltsp.initrd.elf import Elf, ElfTarget
from ltsp.initrd.program_file import ReadFile, parse_elf

PATHS: Final = (
    "bin/busybox.static",
    "bin/busybox-static",
    "bin/busybox",
    "usr/bin/busybox.static",
    "usr/bin/busybox-static",
    "usr/bin/busybox",
    "sbin/busybox",
    "usr/sbin/busybox",
)
"""Of Debian, Ubuntu, Fedora, openSUSE, Arch and Alpine."""
APPLETS: Final = (
    *("ash", "awk", "cat", "grep", "insmod", "ip", "losetup", "mkdir", "mount", "sed", "sha256sum", "switch_root"),
    *("timeout", "udhcpc", "umount", "uname", "wget"),
)
"""Applets that the client's shell code requires. Each build of busybox has another choice of applets."""


@dataclass(frozen=True, slots=True)
class Busybox:
    data: bytes
    origin: str
    """Where it comes from, for people."""


def find_busybox(image: ReadFile, server: ReadFile, given: bytes | None, targets: Iterable[ElfTarget]) -> Busybox:
    """The given one, else the image's, else the server's if it is for one of the image's targets.

    Raises LtspError if none is suitable.
    """
    allowed = frozenset(targets)
    if given is not None:
        _check_given(given, allowed)
        return Busybox(given, "--busybox")
    faults: list[str] = []
    for read, where, own in ((image, "the image", True), (server, "this server", False)):
        for path in PATHS:
            elf = parse_elf(read(path))
            if elf is None:
                continue
            fault = _find_fault(elf, allowed, own=own)
            if fault is None:
                return Busybox(elf.data, f"/{path} of {where}")
            faults.append(f"/{path} of {where} {fault}")
    kinds = " or ".join(sorted(map(str, allowed))) or "clients"
    tried = "; ".join(dict.fromkeys(faults)) or "not found in the image or on this server"
    raise LtspError(
        f"no static busybox for {kinds}: {tried}",
        "install busybox-static (Fedora: busybox) in the image or on this server, or give --busybox FILE",
    )


def _check_given(data: bytes, allowed: frozenset[ElfTarget]) -> None:
    """Raises LtspError if the given busybox is not suitable."""
    try:
        fault = _find_fault(Elf.parse(data), allowed, own=False)
    except FormatError as error:
        fault = f"cannot be used: {error.message}"
    if fault is not None:
        raise LtspError(f"the busybox of --busybox {fault}", "give a static one for the image's architecture")


def _find_fault(elf: Elf, allowed: frozenset[ElfTarget], *, own: bool) -> str | None:
    """Why a busybox is not suitable. The image's own always runs on the image's kernel."""
    try:
        if not elf.is_static:
            return "is not static"
    except FormatError as error:
        return f"is damaged: {error.message}"
    if not own and allowed and elf.target not in allowed:
        return f"is for {elf.target}"
    # The names of applets are consecutive NUL-terminated strings. include/applet_tables.h
    lacking = [name for name in APPLETS if b"\0" + name.encode() + b"\0" not in elf.data]
    return f"lacks {', '.join(lacking)}" if lacking else None
