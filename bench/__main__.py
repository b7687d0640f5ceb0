"""`make bench`: time, size and memory compared with the installed mksquashfs, as markdown or JSON.

All runs alternate on the same machine with a warm cache; other work on it distorts them. Everything takes about twenty
minutes; `--pairs zstd gzip` runs only those pairs, `--files 10000` only that tree of many files, `--files` none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench import codec_pairs, engine, report, scale, startup
from bench.programs import ltsp_image
from tools.debian_root import CHECKOUT, shared

SCRATCH = CHECKOUT / "build" / "bench"


def report_progress(text: str) -> None:
    """Report progress on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def unpack_cleaned_root(root: Path) -> Path:
    """The root after the clean-up of `ltsp image`, unpacked, so that both programs pack the same files."""
    report_progress(f"unpacking the image of {root.relative_to(CHECKOUT)}")
    ltsp_image(root, SCRATCH / "ours", codec_pairs.PAIRS[1].ours.split())
    source = SCRATCH / "source" / root.name
    source.parent.mkdir()
    image = SCRATCH / "ours" / "images" / "lab.img"
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", source, image], check=True)
    os.sync()  # pending writes would slow down the first runs
    return source


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "--pairs", nargs="*", default=[], metavar="CODEC", help="only the pairs whose name starts with CODEC"
    )
    parser.add_argument("--files", nargs="*", type=int, metavar="N", help="sizes of the trees of many files")
    options = parser.parse_args()
    counts = scale.COUNTS if options.files is None else options.files

    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    try:
        source = unpack_cleaned_root(shared())
        started = list(startup.measure_startup(SCRATCH / "ours", report_progress))
        compared = list(codec_pairs.compare_codecs(source, SCRATCH, report_progress, options.pairs))
        missed = [row.pair.ours for row in compared if row.misses]
        costs = list(
            engine.measure_stages(source, SCRATCH, report_progress, list(dict.fromkeys([*engine.ALWAYS, *missed])))
        )
        grown = list(scale.measure_growth(counts, SCRATCH, report_progress))
        version = subprocess.run(["mksquashfs", "-version"], stdout=subprocess.PIPE, text=True, check=False).stdout
        about = {
            "mksquashfs": version.split()[2],
            "python": platform.python_version(),
            "processors": len(os.sched_getaffinity(0)),
            "bytes": sum(
                path.lstat().st_size for path in source.rglob("*") if path.is_file() and not path.is_symlink()
            ),
            "files": sum(1 for _ in source.rglob("*")),
        }
    finally:
        shutil.rmtree(SCRATCH)
    if options.json:
        rows = {
            "pairs": [*map(asdict, compared)],
            "costs": [*map(asdict, costs)],
            "scale": [*map(asdict, grown)],
            "startup": [*map(asdict, started)],
        }
        print(json.dumps(about | rows, indent=1))
        return
    print(report.heading(about))
    parts = [report.of_pairs(compared), report.of_costs(costs), report.of_misses(compared), report.of_scale(grown)]
    for part in (*parts, report.of_startup(started)):
        if part:
            print(f"\n{part}")


if __name__ == "__main__":
    main()
