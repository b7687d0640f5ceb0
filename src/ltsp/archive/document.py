"""The parts of a container image: its JSON documents, its layers, and their digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, read_pieces
from ltsp.tree.name import printable

_MAX_DOCUMENT_SIZE: Final = 8 << 20
"""Bytes of a document; registries accept manifests of up to 4 MiB."""
_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of some content. image-spec: descriptor.md, under Digests"""

    algorithm: str
    hexadecimal: str

    @classmethod
    def parse(cls, digest: str) -> Digest:
        """Raises FormatError."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise FormatError(f"uses the digest {printable(digest[:100])}, which is neither sha256 nor sha512")
        return cls(match[1] or match[3], match[2] or match[4])

    @property
    def path(self) -> str:
        """Path of the part in a layout."""
        return f"blobs/{self.algorithm}/{self.hexadecimal}"

    def verify(self, data: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the pieces through.

        Raises FormatError after the last one if they do not match the digest.
        """
        digest = hashlib.new(self.algorithm)
        for piece in data:
            digest.update(piece)
            yield piece
        if digest.hexdigest() != self.hexadecimal:
            raise FormatError(f"is damaged: the content does not match its digest {self}", "copy it again")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hexadecimal[:12]}"


def read_document(stored: Blocks, what: str, digest: Digest | None = None) -> Any:
    """The value of a document.

    Raises FormatError if it is not JSON, or does not match its digest.
    """
    if stored.size > _MAX_DOCUMENT_SIZE:
        raise FormatError(f"is damaged: {what} is too large: {stored.size >> 20} MiB")
    data = b"".join(read_pieces(stored) if digest is None else digest.verify(read_pieces(stored)))
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError(f"is damaged: {what} is not valid JSON") from None


def require_mapping(value: object, what: str) -> Mapping[str, Any]:
    """Raises FormatError if it has another type."""
    if not isinstance(value, dict):
        raise FormatError(f"is damaged: {what} has the wrong type")
    return value


def require_list(value: object, what: str) -> Sequence[Any]:
    """Raises FormatError if it is not a list."""
    if not isinstance(value, list):
        raise FormatError(f"is damaged: {what} has the wrong type")
    return value


def require_text(value: object, what: str) -> str:
    """Raises FormatError if it has another type."""
    if not isinstance(value, str):
        raise FormatError(f"is damaged: {what} has the wrong type")
    return value


def keep_texts(value: object) -> Mapping[str, str]:
    """The pairs with text values: annotations, platforms."""
    if not isinstance(value, dict):
        return {}
    return {key: said for key, said in value.items() if isinstance(said, str)}


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
