"""A kernel module: its bytes, and the facts in its `.modinfo` section. include/linux/module.h of Linux"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError
from ltsp.initrd.elf import Elf, ElfTarget
from ltsp.tree.name import printable

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
