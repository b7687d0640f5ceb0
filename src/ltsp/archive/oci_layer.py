"""The layers of a container image: each is a tar archive, compressed or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ltsp.archive.document import Digest
from ltsp.storage.blocks import Blocks

OpenPart = Callable[[str], Blocks]
"""Opens the part at a path relative to the layout; raises FormatError if it does not exist."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    path: str
    packed: Digest | None = None
    """Digest of the stored bytes."""
    unpacked: Digest | None = None
    """Digest of the tar archive in them."""
    size: int | None = None
    """Size of the stored bytes."""
