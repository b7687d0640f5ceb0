"""The configuration that a kernel was built with, if the image has it."""

from __future__ import annotations

import re
from typing import Final

from ltsp.errors import FormatError
from ltsp.tree.node import File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

_MOST: Final = 16 << 20
"""Maximum bytes; a distribution's has some 300 KiB."""


def kernel_options(tree: Tree, version: str) -> frozenset[str] | None:
    """The options, `CONFIG_…`, that are `y` or `m`; None if the image does not say."""
    for path in (f"boot/config-{version}", f"lib/modules/{version}/config", f"lib/modules/{version}/build/.config"):
        file = tree.follow(path)
        if isinstance(file, File) and (text := _read_file(file, path)):
            return frozenset(name.decode("ascii") for name in re.findall(rb"^(CONFIG_\w+)=[ym]$", text, re.MULTILINE))
    return None


def _read_file(file: File, path: str) -> bytes:
    try:
        return read_small_file(file, path, _MOST)
    except (OSError, FormatError):
        return b""
