"""Measure the stages of a build: the same work as in `ltsp image`, in its own process, timed from inside."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import ltsp.cli.main  # noqa: F401 -- for its share of the start-up time
from ltsp.build.prepare import prepare_tree
from ltsp.build.request import make_request
from ltsp.commands.image import image as applet  # noqa: F401 -- likewise: all modules that a build needs
from ltsp.host.root import RootDirectory
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import CONF_PATH
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.resolve import Hooks
from ltsp.source.directory.scan import Scan
from ltsp.squashfs.verify import check_image
from ltsp.squashfs.writer import write_squashfs
from ltsp.tree.faults import Faults

ALWAYS = (
    "-comp gzip -Xcompression-level 6",
    "-comp zstd -Xcompression-level 3",
    "-comp zstd -Xcompression-level 9",
    "-comp lz4",
)
"""The default of each codec that kernels support, and fast ones, for which everything else matters more."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of wall-clock time, unless stated otherwise."""

    name: str
    start: float
    """Until all modules are imported."""
    scan: float
    prepare: float
    """Clean-up, kernel, codec and prescan."""
    contents: float
    """Reading, deduplicating, compressing and writing the files."""
    tables: float
    check: float
    """The superblock, and every block of the tables, before an image is published."""
    sha256: float
    """Reading the finished image back; `ltsp image` does it in parallel with `check` and `fsync`."""
    fsync: float
    """The rest of the writeback, most of which happens during writing."""
    processor: float
    """CPU time of the whole process, user and system."""
    kernel_codecs: float
    """Part of `processor` in the codec."""
    hashes: float
    """Part of `contents` for detecting duplicates by sha256."""


def measure_stages(
    source: Path, scratch: Path, report_progress: Callable[[str], None], calls: Sequence[str]
) -> Iterator[Costs]:
    """One row for each value of --mksquashfs-params."""
    for call in calls:
        report_progress(f"stages of {call}")
        began = str(time.monotonic())
        command = [sys.executable, "-m", "bench.engine", began, str(source), str(scratch / "stages.img"), call]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        yield Costs(**json.loads(done.stdout))


def measure_run(started: float, source: str, image: str, call: str) -> Costs:
    """Scan, prepare, write, check, fsync and hash, one after the other. `started` is a time of the monotonic clock."""
    laps = [started, time.monotonic()]

    def lap() -> None:
        laps.append(time.monotonic())

    options = ImageOptions(mksquashfs_params=tuple(call.split()))
    asked = make_request(options, LtspOptions(), Hooks(), os.path.dirname(CONF_PATH))
    faults = Faults()
    with RootDirectory.open(os.fsencode(source)) as root, open(image, "w+b", buffering=0) as output:
        tree = Scan(asked.rules.selection, faults).run(root)
        lap()
        prepared = prepare_tree(tree, Path(source).name, asked, faults)
        lap()
        written = write_squashfs(prepared.tree, output, prepared.write_options, faults)
        lap()
        check_image(output)
        lap()
        os.fsync(output)
        lap()
        written.sealed.read_back(output.fileno())
        lap()
    start, scan, prepare_, _, check_, fsync, sha256 = (end - begin for begin, end in pairwise(laps))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Costs(
        str(prepared.write_options.compression),
        start=start,
        scan=scan,
        prepare=prepare_,
        contents=written.seconds.contents,
        tables=written.seconds.tables,
        check=check_,
        sha256=sha256,
        fsync=fsync,
        processor=used.ru_utime + used.ru_stime,
        kernel_codecs=written.seconds.codec,
        hashes=written.seconds.hash,
    )


def main() -> None:
    started, source, image, call = sys.argv[1:]
    print(json.dumps(asdict(measure_run(float(started), source, image, call))))


if __name__ == "__main__":
    import gc

    gc.disable()  # like the program
    main()
