"""The firmware of the image that modules may request: as much as fits, smallest files first.

Small files are for many common cards; large ones are for data centre cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ltsp.initrd.compressed_file import read_decompressed
from ltsp.tree.name import sort_names
from ltsp.tree.tree import Tree

_DIRECTORY: Final = "lib/firmware"
_MOST: Final = 64 << 20
"""Maximum bytes of one file."""


@dataclass(frozen=True, slots=True)
class DriverFirmware:
    included: Mapping[str, bytes]
    """By path below lib/firmware, decompressed."""
    left_out: tuple[str, ...]
    """In the image, but beyond the limit."""
    missing: tuple[str, ...]
    """Not in the image."""

    @classmethod
    def collect(cls, tree: Tree, version: str, wanted: Iterable[str], most: int) -> DriverFirmware:
        """Collect the wanted files; `most` is the limit in bytes for all files together.

        Raises FormatError if one is damaged, and OSError.
        """
        found: dict[str, bytes] = {}
        missing = []
        for path in sort_names(list(set(wanted))):
            data = _read_firmware(tree, version, path)
            if data is None:
                missing.append(path)
            else:
                found[path] = data
        included: dict[str, bytes] = {}
        size = 0
        for path in sorted(found, key=lambda path: (len(found[path]), path)):
            size += len(found[path])
            if size > most:
                break
            included[path] = found[path]
        return cls(included, tuple(path for path in found if path not in included), tuple(missing))


def _read_firmware(tree: Tree, version: str, path: str) -> bytes | None:
    """The file from the kernel's search path, in its order. drivers/base/firmware_loader/main.c"""
    for place in (f"updates/{version}", "updates", version, ""):
        data = read_decompressed(tree, "/".join(filter(None, (_DIRECTORY, place, path))), _MOST)
        if data is not None:
            return data
    return None
