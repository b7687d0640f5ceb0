"""A part of a disk, as a table of either kind gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    offset: int
    size: int
    """Bytes, both."""
    type: str
    """`83` of an MBR, the GUID of a GPT; lower case."""
    name: str = ""
    """Of a GPT; not safe to print."""
    uuid: str = ""
    """As in PARTUUID=, lower case."""
