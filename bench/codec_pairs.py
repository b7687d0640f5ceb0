"""Compare codecs: the same files packed alternately by mksquashfs and `ltsp image`, with goals for each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.process_cost import Run
from bench.programs import ltsp_image, mksquashfs

ROUNDS = 3
ENOUGH = 60.0
"""Seconds of runs of one pair after which no further round starts: a slow pair runs once."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison and its goals."""

    name: str
    theirs: str
    """Parameters of mksquashfs."""
    ours: str
    """Value of --mksquashfs-params."""
    speed: float = 1.0
    """Goal for the speed relative to mksquashfs."""
    growth: float = 1.003
    """Limit for the image size relative to mksquashfs."""


PAIRS = (
    Pair("gzip (mksquashfs's default)", "", "-comp gzip -Xcompression-level 6", speed=13.0, growth=1.0),
    Pair("zstd 3", "-comp zstd -Xcompression-level 3", "-comp zstd -Xcompression-level 3"),
    Pair("zstd 15", "-comp zstd -Xcompression-level 15", "-comp zstd -Xcompression-level 15"),
    Pair("lz4", "-comp lz4", "-comp lz4"),
    Pair("xz", "-comp xz", "-comp xz"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of the runs of a pair."""

    pair: Pair
    theirs: Run
    ours: Run
    rounds: int

    @property
    def speed(self) -> float:
        return self.theirs.seconds / self.ours.seconds

    @property
    def growth(self) -> float:
        return self.ours.size / self.theirs.size

    @property
    def misses(self) -> list[str]:
        """The missed goals, in words."""
        found = []
        if self.speed < self.pair.speed:
            found.append("speed")
        if self.growth > self.pair.growth:
            found.append("size")
        if self.ours.peak > self.theirs.peak:
            found.append("memory")
        return found


def compare_codecs(
    source: Path, scratch: Path, report_progress: Callable[[str], None], names: list[str]
) -> Iterator[Result]:
    """The results of each pair whose name starts with one of `names`, or of all pairs."""
    for pair in PAIRS:
        if names and not pair.name.startswith(tuple(names)):
            continue
        theirs: list[Run] = []
        ours: list[Run] = []
        while len(ours) < ROUNDS and sum(run.seconds for run in [*theirs, *ours]) < ENOUGH:
            report_progress(f"{pair.name}, round {len(ours) + 1}")
            theirs.append(mksquashfs(source, scratch / "theirs.img", pair.theirs.split()))
            ours.append(ltsp_image(source, scratch / "ours", pair.ours.split()))
        yield Result(pair, Run.median(theirs), Run.median(ours), len(ours))
