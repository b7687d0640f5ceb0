"""The firmware that modules ask for, out of the image: as much as fits, the smallest files first.

Many small files are those of many cards; the large ones are of cards for data centres.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ltsp.initrd.packed_file import read_unpacked
from ltsp.tree.name import in_order
from ltsp.tree.tree import Tree

_DIRECTORY: Final = "lib/firmware"
_MOST: Final = 64 << 20
"""Bytes of one file."""


@dataclass(frozen=True, slots=True)
class Firmware:
    taken: Mapping[str, bytes]
    """By path below lib/firmware, unpacked."""
    left_out: tuple[str, ...]
    """In the image, and too much."""
    absent: tuple[str, ...]
    """Not in the image."""

    @classmethod
    def collect(cls, tree: Tree, version: str, wanted: Iterable[str], most: int) -> Firmware:
        """`most`: bytes of all files together.

        Raises FormatError where one is damaged, OSError as reading does.
        """
        found: dict[str, bytes] = {}
        absent = []
        for path in in_order(list(set(wanted))):
            data = _read(tree, version, path)
            if data is None:
                absent.append(path)
            else:
                found[path] = data
        taken: dict[str, bytes] = {}
        size = 0
        for path in sorted(found, key=lambda path: (len(found[path]), path)):
            size += len(found[path])
            if size > most:
                break
            taken[path] = found[path]
        return cls(taken, tuple(path for path in found if path not in taken), tuple(absent))


def _read(tree: Tree, version: str, path: str) -> bytes | None:
    """From the places where the kernel looks, in its order. drivers/base/firmware_loader/main.c"""
    for place in (f"updates/{version}", "updates", version, ""):
        data = read_unpacked(tree, "/".join(filter(None, (_DIRECTORY, place, path))), _MOST)
        if data is not None:
            return data
    return None
