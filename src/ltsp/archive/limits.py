"""Limits on what a small hostile archive can consume: memory, disk space and time."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.errors import FormatError

_MEMORY = 256 << 20
_MEMORY_PER_BYTE = 8
"""Bytes of memory for a tree: for any archive, and per stored byte. A header has 512 bytes, a node takes about 400."""
_UNPACKED = 256 << 20
_UNPACKED_PER_BYTE = 200
"""Limits of decompressed bytes. Systems grow three to five times, and gzip at most 1030 times."""
_STEPS = 1 << 20
_STEPS_PER_BYTE = 1
"""Path components to follow through symbolic links before members: chains of long links take time."""


@dataclass(slots=True)
class ArchiveLimits:
    """The limits of one source, with all its layers and members."""

    packed: int = 0
    """Stored bytes of the source that were read."""
    unpacked: int = 0
    """Decompressed bytes."""
    memory: int = 0
    steps: int = 0

    def count_unpacked(self, packed: int, unpacked: int) -> None:
        """Raises FormatError."""
        self.packed += packed
        self.unpacked += unpacked
        if self.unpacked > _UNPACKED + _UNPACKED_PER_BYTE * self.packed:
            raise FormatError(
                f"unpacks to more than {self.unpacked >> 20} MiB, {_UNPACKED_PER_BYTE} times its size",
                "if that is correct, unpack it yourself, and give the result",
            )

    def take_memory(self, memory: int) -> None:
        """Raises FormatError."""
        self.memory += memory
        if self.memory > _MEMORY + _MEMORY_PER_BYTE * self.packed:
            raise FormatError("has far more files and names than its size allows")

    def count_steps(self, names: int) -> None:
        """Raises FormatError."""
        self.steps += names
        if self.steps > _STEPS + _STEPS_PER_BYTE * self.packed:
            raise FormatError("has far more symbolic links than its size allows")
