"""Read a file from runs of bytes in its volume, with holes between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import HOLE, Extent, extents

DataRun = tuple[int, int, int]
"""Start in the file, start in the volume, and length, all in bytes."""


@dataclass(slots=True)
class RunStream:
    """An open file. Anything outside of the runs is a hole."""

    blocks: Blocks
    size: int
    runs: Sequence[DataRun]
    """In file order, not overlapping."""
    at: int = 0
    index: int = 0
    """Index of the run at the current position, or of the next one."""
    mtime: int | None = None

    def read(self, size: int) -> bytes:
        left = min(size, self.size - self.at)
        pieces = []
        while left > 0:
            start, place, length = self._current_run()
            passed = self.at - start
            if passed < 0:
                piece = bytes(min(left, -passed))
            else:
                wanted = min(left, length - passed)
                piece = self.blocks.read_at(place + passed, wanted)
                if len(piece) != wanted:
                    raise FormatError(f"a file has data at {place + passed}, beyond the end of the volume")
            pieces.append(piece)
            self.at += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hole_size(self) -> int:
        if self.at >= self.size:
            return 0
        return max(0, min(self._current_run()[0], self.size) - self.at)

    def skip(self, size: int) -> None:
        self.at += size

    def is_consistent(self) -> bool:
        return True

    def extents(self) -> Iterator[Extent]:
        """The extents of the rest. Raises NotInFiles."""
        while self.at < self.size:
            start, place, length = self._current_run()
            passed = self.at - start
            if passed < 0:
                size = min(start, self.size) - self.at
                yield Extent(HOLE, 0, size)
            else:
                size = min(length - passed, self.size - self.at)
                yield from extents(self.blocks, place + passed, size)
            self.at += size

    def _current_run(self) -> DataRun:
        """The run at the current position, or the next one; after the last, an empty run at the end."""
        runs, at = self.runs, self.at
        while self.index < len(runs):
            run = runs[self.index]
            if at < run[0] + run[2]:
                return run
            self.index += 1
        return self.size, 0, 0


def read_whole(blocks: Blocks, size: int, runs: Sequence[DataRun]) -> bytes:
    """All bytes of runs that the caller knows to be small."""
    return RunStream(blocks, size, runs).read(size)


def add_run(runs: list[DataRun], start: int, place: int, length: int) -> None:
    """Append a run; join it to the last one if it continues that in the file and in the volume."""
    if runs:
        last_start, last_place, last_length = runs[-1]
        if last_start + last_length == start and last_place + last_length == place:
            runs[-1] = (last_start, last_place, last_length + length)
            return
    runs.append((start, place, length))
