"""`make bench-sources`: the cost of a build from each kind of source, compared with a directory, as a table or JSON.

One Debian root is put into every form, and packed from it and from the directory in turn, both in a warm cache, with
the codec that is used unless told otherwise; ratios are those of two runs that followed each other. What reading alone
takes is measured apart: all contents, by one thread, without an image. `--forms raw qcow2` takes those alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.process_cost import Run
from bench.programs import ltsp_image
from bench.report import table
from bench.source_forms import FORMS, prepare_forms
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from ltsp.tree.selection import select_all
from tools.debian_root import CHECKOUT, shared

SCRATCH = CHECKOUT / "build" / "bench-sources"
MOST = 1.5
"""Limit for the time of a build from the forms in GOALS, relative to the directory."""
GOALS = frozenset({"raw", "qcow2"})
BY_KERNEL = "raw-kernel"
"""The form that is read with the kernel instead of the default reader."""
_PIECE = 1 << 17
"""Bytes that a build reads at a time: a squashfs block."""


@dataclass(frozen=True, slots=True)
class Row:
    """One form; seconds and ratios are medians."""

    form: str
    builds: int
    seconds: float
    processor: float
    peak: int
    """Bytes of the largest process."""
    ratio: float
    """Ratio of the seconds to those of the preceding build from the directory."""
    work: float
    """The same ratio for CPU time, which is less affected by other load."""
    reading: float
    """Seconds for the tree and all contents without a build."""
    reading_processor: float
    read: int
    """Bytes that were read."""

    @property
    def misses(self) -> bool:
        return self.form in GOALS and self.ratio > MOST


def report_progress(text: str) -> None:
    """Report progress on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def rows(root: Path, forms: list[str], rounds: int) -> Iterator[Row]:
    """Measure the directory first; each form is removed afterwards, unless others are made from it."""
    yield _row("directory", str(root), root, 1)
    for form, argument in prepare_forms(root, SCRATCH / "forms", forms):
        yield _row(form, argument, root, rounds)


def _row(form: str, argument: str, root: Path, rounds: int) -> Row:
    reader = "kernel" if form == BY_KERNEL else "auto"
    taken = [_reading(argument, reader) for _ in range(rounds + 1)][1:]  # the first run fills the cache
    pairs: list[tuple[Run, Run]] = []
    for number in range(rounds):
        base = ltsp_image(str(root), SCRATCH / "ours", [])
        ours = base if argument == str(root) else ltsp_image(argument, SCRATCH / "ours", [], [f"--reader={reader}"])
        pairs.append((base, ours))
        ratio, work = ours.seconds / base.seconds, ours.processor / base.processor
        report_progress(f"{form}, round {number + 1}: {ratio:.2f} of the directory's time, {work:.2f} of its CPU time")
    middle = Run.median([ours for _, ours in pairs])
    return Row(
        form,
        rounds,
        middle.seconds,
        middle.processor,
        middle.peak,
        statistics.median(ours.seconds / base.seconds for base, ours in pairs),
        statistics.median(ours.processor / base.processor for base, ours in pairs),
        statistics.median(each.seconds for each in taken),
        statistics.median(each.processor for each in taken),
        taken[0].size,
    )


def _reading(argument: str, reader: str) -> Run:
    """Read in a separate process, timed after all imports."""
    command = [sys.executable, "-m", "bench.sources", "--read", argument, reader]
    return Run(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def read(argument: str, reader: str) -> Run:
    """Read everything in a source like `ltsp image`, but in one thread."""
    gc.disable()  # like the program
    total = 0
    began, before = time.perf_counter(), _processor()
    source = find_source(argument, str(SCRATCH), name="lab", disks=DiskOptions(reader=reader))
    with source.open(select_all, Faults()) as tree:
        contents = {id(node): node.content for _, node in tree.walk() if isinstance(node, File)}
        for content in contents.values():
            with content.open() as stream:
                while total_read := len(stream.read(_PIECE)):
                    total += total_read
    return Run(time.perf_counter() - began, _processor() - before, 0, total)


def _processor() -> float:
    """CPU seconds of this process and its child processes."""
    every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in every)


def printed(found: list[Row]) -> str:
    lines = []
    for row in found:
        rate = row.read / row.reading / 1e6
        goal = "" if row.form not in GOALS else f"≤ {MOST:g}: {'missed' if row.misses else 'reached'}"
        lines.append([
            row.form, f"{row.seconds:.2f}", f"{row.processor:.2f}", f"{row.ratio:.2f}", f"{row.work:.2f}",
            f"{row.peak / 1e6:.0f}", f"{rate:.0f}", f"{row.reading_processor:.2f}", goal,
        ])  # fmt: skip
    head = ["source", "build s", "CPU s", "time / directory", "CPU / directory", "memory MB"]
    return table([*head, "reading MB/s", "CPU s of reading", "goal"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-sources", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--forms", nargs="*", choices=[*FORMS], default=[*FORMS], metavar="FORM", help=", ".join(FORMS))
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="pairs of builds to take medians of")
    parser.add_argument("--read", nargs=2, metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(asdict(read(*options.read))))
        return

    shutil.rmtree(SCRATCH, ignore_errors=True)
    (SCRATCH / "forms").mkdir(parents=True)
    began = time.monotonic()
    try:
        found = list(rows(shared(), options.forms, options.rounds))
    finally:
        shutil.rmtree(SCRATCH)
    report_progress(f"{time.monotonic() - began:.0f} s")
    if options.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    print(
        f"ltsp image with Python {platform.python_version()} on {len(os.sched_getaffinity(0))} processors, from a warm "
        f"cache; medians of {options.rounds} pairs.\n"
    )
    print(printed(found))


if __name__ == "__main__":
    main()
