"""How much an archive may make of little: what small hostile ones would exhaust, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.errors import FormatError

_MEMORY = 256 << 20
_MEMORY_PER_BYTE = 8
"""Bytes that a tree may take: for any archive, and for each byte of it as stored. A header has 512, a node some 400."""
_UNPACKED = 256 << 20
_UNPACKED_PER_BYTE = 200
"""Bytes that may come out of compressed ones. Systems come to three to five times their size, and gzip cannot do more
than 1030 times."""
_STEPS = 1 << 20
_STEPS_PER_BYTE = 1
"""Names on the ways of symbolic links in front of members: a chain of long links costs time at each of them."""


@dataclass(slots=True)
class ArchiveLimits:
    """Of one source: for all layers and members in it."""

    packed: int = 0
    """Bytes that were read of the source, as it is stored."""
    unpacked: int = 0
    """Bytes that came out of compressed ones."""
    memory: int = 0
    steps: int = 0

    def count_unpacked(self, packed: int, unpacked: int) -> None:
        """Raises FormatError."""
        self.packed += packed
        self.unpacked += unpacked
        if self.unpacked > _UNPACKED + _UNPACKED_PER_BYTE * self.packed:
            raise FormatError(
                f"unpacks to more than {self.unpacked >> 20} MiB, {_UNPACKED_PER_BYTE} times what it is",
                "if that is no mistake, unpack it yourself and give the result",
            )

    def take_memory(self, memory: int) -> None:
        """Raises FormatError."""
        self.memory += memory
        if self.memory > _MEMORY + _MEMORY_PER_BYTE * self.packed:
            raise FormatError("holds far more files and names than its size allows")

    def count_steps(self, names: int) -> None:
        """Raises FormatError."""
        self.steps += names
        if self.steps > _STEPS + _STEPS_PER_BYTE * self.packed:
            raise FormatError("leads through far more symbolic links than its size allows")
