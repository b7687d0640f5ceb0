"""Measure how time and memory grow with the number of small files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.process_cost import Run
from bench.programs import ltsp_image, mksquashfs
from corpus.system import make_system

COUNTS = (10_000, 100_000, 1_000_000)
PER_DIRECTORY = 30
PARAMETERS = ["-comp", "zstd", "-Xcompression-level", "3"]
MOST_MEMORY = 1_500_000_000
"""Bytes, for a million files."""
LINEAR = 1.5
"""Limit for the time per file in the largest tree, relative to the previous tree."""
_LINES = "".join(f"{number} {number * 2654435761 % 2**32:x}\n" for number in range(400)).encode()


@dataclass(frozen=True, slots=True)
class Result:
    files: int
    theirs: Run
    ours: Run

    @property
    def per_file(self) -> float:
        """Microseconds."""
        return self.ours.seconds / self.files * 1e6


def build(root: Path, files: int) -> None:
    """A small system with that many files of 0 to 4 KB below /data, no two alike, in directories of thirty."""
    make_system(root)
    for number in range(files):
        if number % PER_DIRECTORY == 0:
            group = number // PER_DIRECTORY
            directory = os.path.join(root, "data", f"{group // 1000:04}", f"{group % 1000:03}")
            os.makedirs(directory)
        with open(os.path.join(directory, f"file-{number}"), "wb", buffering=0) as file:
            file.write(b"%d\n" % number + _LINES[: number * 7919 % 4000])


def measure_growth(counts: Sequence[int], scratch: Path, report_progress: Callable[[str], None]) -> Iterator[Result]:
    """Create each tree, pack it with both programs, and remove it."""
    for files in counts:
        report_progress(f"{files:,} files")
        root = scratch / "many"
        build(root, files)
        os.sync()  # pending writes would slow down the runs
        try:
            theirs = mksquashfs(root, scratch / "theirs.img", PARAMETERS)
            ours = ltsp_image(root, scratch / "ours", PARAMETERS)
        finally:
            shutil.rmtree(root)
        yield Result(files, theirs, ours)
