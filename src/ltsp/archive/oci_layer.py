"""The parts of an image of containers, by where they lie: layers, each a tar that is compressed or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ltsp.archive.document import Digest
from ltsp.storage.blocks import Blocks

OpenPart = Callable[[str], Blocks]
"""The part at a path, relative to the layout; raises FormatError where there is none."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    path: str
    packed: Digest | None = None
    """Of the bytes as they are stored."""
    unpacked: Digest | None = None
    """Of the tar in them."""
    size: int | None = None
    """Bytes as stored."""
