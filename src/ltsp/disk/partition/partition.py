"""A partition, as described by an MBR or a GPT."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    offset: int
    size: int
    """Bytes, like `offset`."""
    type: str
    """`83` in an MBR, a GUID in a GPT; lower case."""
    name: str = ""
    """Only in a GPT; not safe to print."""
    uuid: str = ""
    """As in PARTUUID=, lower case."""
