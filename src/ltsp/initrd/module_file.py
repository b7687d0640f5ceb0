"""The facts in a kernel module's file, and its kind, judged from them by the rows of lists/network.modules.

The kind is for modules that did not come with the kernel, whose directory says nothing. A module is judged together
with the added modules that it needs, since vendors split drivers into several files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Final

from ltsp.errors import FormatError
from ltsp.initrd.compressed_file import decompress
from ltsp.initrd.elf import Elf, ElfTarget
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import printable
from ltsp.tree.node import File
from ltsp.tree.tree import Tree


class DriverKind(Enum):
    """The kinds in lists/network.modules."""

    HARDWARE = "hardware"
    WIRED = "wired"
    PHY = "phy"
    WIRELESS = "wireless"
    OTHER = "other"
    CLASS = "class"


@dataclass(frozen=True, slots=True)
class ModuleKind:
    """The kinds that one file matches."""

    kinds: frozenset[DriverKind]
    is_usb: bool
    """Whether it drives USB devices, so that drivers for USB host controllers are needed too."""

    @classmethod
    def of(cls, file: ModuleFile) -> ModuleKind:
        """Raises FormatError if the file's tables are damaged."""
        symbols = Elf.parse(file.data).undefined_symbols()
        facts = {"symbol": symbols or (), "alias": file.aliases}
        kinds = {
            row.kind for row in _read_rows() if any(fnmatchcase(text, row.pattern) for text in facts[row.matched_fact])
        }
        if symbols is None and DriverKind.HARDWARE in kinds and DriverKind.CLASS not in kinds:
            # Its imports are unknown. One driver too many costs some KiB, one too few the client.
            kinds.add(DriverKind.WIRED)
        return cls(frozenset(kinds), any(alias.startswith("usb:") for alias in file.aliases))


def read_kinds(tree: Tree, paths_in_image: Mapping[str, str]) -> tuple[dict[str, ModuleKind], tuple[str, ...]]:
    """The kinds of modules by path, given their places in the tree; and the paths of unreadable ones."""
    found: dict[str, ModuleKind] = {}
    unknown = []
    for path, path_in_image in paths_in_image.items():
        try:
            found[path] = _read_kind(tree, path_in_image)
        except (FormatError, OSError):
            unknown.append(path)
    return found, tuple(unknown)


def _read_kind(tree: Tree, path: str) -> ModuleKind:
    file = tree.follow(path)
    if not isinstance(file, File):
        raise FormatError(f"/{printable(path)} is not in the image")
    return ModuleKind.of(
        ModuleFile.parse(decompress(read_small_file(file, path, MAX_MODULE_SIZE), path, MAX_MODULE_SIZE), path)
    )


def is_for_wired_cards(path: str, kinds: Mapping[str, ModuleKind], needed: Iterable[str]) -> bool:
    """Whether the module at a path drives wired network cards, or their transceivers.

    `needed` are the paths of its dependencies; those of known kind are judged together with it.
    """
    own_kinds = kinds[path].kinds
    combined = own_kinds.union(*(kinds[other].kinds for other in needed if other in kinds))
    if DriverKind.WIRELESS in combined or DriverKind.OTHER in own_kinds:
        return False
    return DriverKind.PHY in own_kinds or combined >= {DriverKind.HARDWARE, DriverKind.WIRED}


@dataclass(frozen=True, slots=True)
class _KindRow:
    kind: DriverKind
    matched_fact: str
    """`symbol` or `alias`."""
    pattern: str


@cache
def _read_rows() -> tuple[_KindRow, ...]:
    return tuple(_parse_rows(resources.files("ltsp.initrd").joinpath(_KINDS_LIST).read_text("utf-8")))


def _parse_rows(text: str) -> Iterator[_KindRow]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            kind, matched_fact, pattern, _source = line.split(None, 3)
            yield _KindRow(DriverKind(kind), matched_fact, pattern)


_KINDS_LIST: Final = "lists/network.modules"


MAX_MODULE_SIZE: Final = 64 << 20
"""Maximum bytes of a module, decompressed; the largest of distributions have some 10 MiB."""
_ALIAS: Final = re.compile(r"[!-~]+")
_FIRMWARE: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w./+,@=-]{0,250}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModuleFile:
    data: bytes
    target: ElfTarget
    aliases: tuple[str, ...]
    """Shell patterns of the devices that it drives, and other names of it."""
    firmware: tuple[str, ...]
    """Paths below lib/firmware that it may request."""

    @classmethod
    def parse(cls, data: bytes, path: str) -> ModuleFile:
        """Raises FormatError if the file is not a kernel module."""
        try:
            elf = Elf.parse(data)
            section = elf.section(".modinfo")
        except FormatError as error:
            raise FormatError(f"/{printable(path)} is not a kernel module: {error.message}") from error
        records = [record.partition(b"=") for record in (section or b"").split(b"\0")]
        values = [(key, value.decode("utf-8", "surrogateescape")) for key, _, value in records]
        return cls(
            data,
            elf.target,
            tuple(dict.fromkeys(value for key, value in values if key == b"alias" and _ALIAS.fullmatch(value))),
            tuple(dict.fromkeys(value for key, value in values if key == b"firmware" and _FIRMWARE.fullmatch(value))),
        )
