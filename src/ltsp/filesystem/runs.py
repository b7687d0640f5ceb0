"""Reading a file that lies in runs of bytes of its volume, with holes between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, extents

Run = tuple[int, int, int]
"""Where it begins in the file, where in the volume, and its length, all in bytes."""


@dataclass(slots=True)
class RunStream:
    """One reading. What no run covers is a hole."""

    blocks: Blocks
    size: int
    runs: Sequence[Run]
    """In the order of the file, not overlapping."""
    at: int = 0
    index: int = 0
    """Of the run in which the stream stands, or of the next one."""
    mtime: int | None = None

    def read(self, size: int) -> bytes:
        left = min(size, self.size - self.at)
        pieces = []
        while left > 0:
            start, place, length = self._run()
            passed = self.at - start
            if passed < 0:
                piece = bytes(min(left, -passed))
            else:
                wanted = min(left, length - passed)
                piece = self.blocks.read_at(place + passed, wanted)
                if len(piece) != wanted:
                    raise FormatError(f"a file has data at {place + passed}, where the volume ends")
            pieces.append(piece)
            self.at += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole(self) -> int:
        if self.at >= self.size:
            return 0
        return max(0, min(self._run()[0], self.size) - self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def settled(self) -> bool:
        return True

    def extents(self) -> Iterator[Extent]:
        """Of all that is left. Raises NotInFiles."""
        while self.at < self.size:
            start, place, length = self._run()
            passed = self.at - start
            if passed < 0:
                size = min(start, self.size) - self.at
                yield Extent(HOLE, 0, size)
            else:
                size = min(length - passed, self.size - self.at)
                yield from extents(self.blocks, place + passed, size)
            self.at += size

    def _run(self) -> Run:
        """The run in which the stream stands, or the next one; behind the last one, a run that begins at the end."""
        runs, at = self.runs, self.at
        while self.index < len(runs):
            run = runs[self.index]
            if at < run[0] + run[2]:
                return run
            self.index += 1
        return self.size, 0, 0


def read_whole(blocks: Blocks, size: int, runs: Sequence[Run]) -> bytes:
    """All bytes of something that its caller knows to be small."""
    return RunStream(blocks, size, runs).read(size)


def add_run(runs: list[Run], start: int, place: int, length: int) -> None:
    """Append a run, joined to the last one where it goes on from it in the file and in the volume."""
    if runs:
        last_start, last_place, last_length = runs[-1]
        if last_start + last_length == start and last_place + last_length == place:
            runs[-1] = (last_start, last_place, last_length + length)
            return
    runs.append((start, place, length))
