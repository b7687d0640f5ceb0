"""Finding programs that a client needs before it has its root: read, never executed.

busybox, which its initrd runs on, is static; others come from the image or the server with the libraries they need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError, LtspError
from ltsp.initrd.elf import Elf, ElfTarget
from ltsp.tree.faults import read_small_file
from ltsp.tree.node import File
from ltsp.tree.tree import Tree

MAX_PROGRAM_SIZE: Final = 64 << 20
"""Maximum bytes of a program or library."""
ReadFile = Callable[[str], bytes | None]
"""The bytes of the regular file at a path relative to the root, following links; None if it cannot be read."""


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """Programs of the server for clients of the same architecture; none by default."""

    read: ReadFile = lambda _path: None


@dataclass(frozen=True, slots=True)
class Program:
    """A program with its loader and libraries."""

    path: str
    """Where it was found."""
    data: bytes
    target: ElfTarget
    libraries: dict[str, bytes]
    """By file name, including the loader; empty if it is static."""


def make_image_reader(tree: Tree) -> ReadFile:
    """A function that reads files of an image."""

    def read(path: str) -> bytes | None:
        file = tree.follow(path)
        if not isinstance(file, File):
            return None
        try:
            return read_small_file(file, path, MAX_PROGRAM_SIZE)
        except (OSError, FormatError):
            return None

    return read


def parse_elf(data: bytes | None) -> Elf | None:
    """None if it is not an ELF file."""
    try:
        return None if data is None else Elf.parse(data)
    except FormatError:
        return None


def find_program(read: ReadFile, paths: tuple[str, ...]) -> Program | None:
    """The program at the first of the paths whose libraries are all found; None if there is none."""
    for path in paths:
        elf = parse_elf(read(path))
        if elf is None:
            continue
        try:
            libraries = _find_libraries(read, elf)
        except FormatError:
            continue
        if libraries is not None:
            return Program(path, elf.data, elf.target, libraries)
    return None


def _find_libraries(read: ReadFile, program: Elf) -> dict[str, bytes] | None:
    """The loader and all libraries, including indirect ones; None if one is not found.

    Raises FormatError if one is damaged.
    """
    found: dict[str, bytes] = {}
    loader = program.interpreter()
    if loader is not None:
        data = read(loader.lstrip("/"))
        if data is None:
            return None
        found[loader.rpartition("/")[2]] = data
    pending = list(program.needed_libraries())
    while pending:
        name = pending.pop()
        if name in found:
            continue
        library = _find_library(read, name, program.target)
        if library is None:
            return None
        found[name] = library.data
        pending.extend(library.needed_libraries())
    return found


def _find_library(read: ReadFile, name: str, target: ElfTarget) -> Elf | None:
    """A library for the target from the loader's default directories. ld.so(8)"""
    if "/" in name:
        return None
    for directory in _library_directories(target):
        elf = parse_elf(read(f"{directory}/{name}"))
        if elf is not None and elf.target == target:
            return elf
    return None


_MULTIARCH_TRIPLETS: Final = {
    "x86-64": ("x86_64-linux-gnu",),
    "i386": ("i386-linux-gnu", "i686-linux-gnu"),
    "arm64": ("aarch64-linux-gnu",),
    "arm": ("arm-linux-gnueabihf", "arm-linux-gnueabi"),
    "ppc64": ("powerpc64le-linux-gnu",),
    "s390x": ("s390x-linux-gnu",),
    "riscv, 64 bit": ("riscv64-linux-gnu",),
}
"""Names of Debian's multiarch directories."""


def _library_directories(target: ElfTarget) -> Iterator[str]:
    for triplet in _MULTIARCH_TRIPLETS.get(str(target), ()):
        yield f"usr/lib/{triplet}"
        yield f"lib/{triplet}"
    yield from ("usr/lib64", "lib64", "usr/lib", "lib")


BUSYBOX_PATHS: Final = (
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
BUSYBOX_APPLETS: Final = (
    *("ash", "awk", "cat", "grep", "insmod", "ip", "losetup", "mkdir", "mount", "sed", "sha256sum", "switch_root"),
    *("timeout", "udhcpc", "umount", "uname", "wget"),
)
"""Applets that the client's shell code requires. Each build of busybox has another choice of applets."""


@dataclass(frozen=True, slots=True)
class Busybox:
    data: bytes
    origin: str
    """Where it comes from, for people."""


def find_busybox(
    read_image_file: ReadFile, read_server_file: ReadFile, user_busybox: bytes | None, targets: Iterable[ElfTarget]
) -> Busybox:
    """The given one, else the image's, else the server's if it is for one of the image's targets.

    Raises LtspError if none is suitable.
    """
    allowed = frozenset(targets)
    if user_busybox is not None:
        _check_user_busybox(user_busybox, allowed)
        return Busybox(user_busybox, "--busybox")
    faults: list[str] = []
    for read, where, from_image in ((read_image_file, "the image", True), (read_server_file, "this server", False)):
        for path in BUSYBOX_PATHS:
            elf = parse_elf(read(path))
            if elf is None:
                continue
            fault = _find_fault(elf, allowed, from_image=from_image)
            if fault is None:
                return Busybox(elf.data, f"/{path} of {where}")
            faults.append(f"/{path} of {where} {fault}")
    architectures = " or ".join(sorted(map(str, allowed))) or "clients"
    tried = "; ".join(dict.fromkeys(faults)) or "not found in the image or on this server"
    raise LtspError(
        f"no static busybox for {architectures}: {tried}",
        "install busybox-static (Fedora: busybox) in the image or on this server, or give --busybox FILE",
    )


def _check_user_busybox(data: bytes, allowed: frozenset[ElfTarget]) -> None:
    """Raises LtspError if the given busybox is not suitable."""
    try:
        fault = _find_fault(Elf.parse(data), allowed, from_image=False)
    except FormatError as error:
        fault = f"cannot be used: {error.message}"
    if fault is not None:
        raise LtspError(f"the file of --busybox {fault}", "give a static busybox for the image's architecture")


def _find_fault(elf: Elf, allowed: frozenset[ElfTarget], *, from_image: bool) -> str | None:
    """Why a busybox is not suitable. The image's own always runs on the image's kernel."""
    try:
        if not elf.is_static:
            return "is not static"
    except FormatError as error:
        return f"is damaged: {error.message}"
    if not from_image and allowed and elf.target not in allowed:
        return f"is for {elf.target}"
    # The names of applets are consecutive NUL-terminated strings. include/applet_tables.h
    lacking = [name for name in BUSYBOX_APPLETS if b"\0" + name.encode() + b"\0" not in elf.data]
    return f"lacks {', '.join(lacking)}" if lacking else None
