"""`make bench`: time, size and memory beside the mksquashfs that is installed here, as markdown or JSON.

All runs read the same warm cache on the same machine, in turn. All of it takes about twenty minutes; `--pairs zstd
gzip` runs those pairs alone, `--files 10000` makes that one tree, `--files` none.
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

from bench import codec_pairs, engine, report, scale
from bench.programs import ltsp_image
from tools.debian_root import CHECKOUT, shared

SCRATCH = CHECKOUT / "build" / "bench"


def tell(text: str) -> None:
    """Say what is going on, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def cleaned(root: Path) -> Path:
    """The root as `ltsp image` leaves it in an image, on disk: both programs are to pack the same files."""
    tell(f"unpacking what ltsp image makes of {root.relative_to(CHECKOUT)}")
    ltsp_image(root, SCRATCH / "ours", codec_pairs.PAIRS[1].ours.split())
    source = SCRATCH / "source" / root.name
    source.parent.mkdir()
    image = SCRATCH / "ours" / "images" / "lab.img"
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", source, image], check=True)
    os.sync()  # what is still to be written would slow the first runs down
    return source


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--pairs", nargs="*", default=[], metavar="CODEC", help="only the pairs that begin so")
    parser.add_argument("--files", nargs="*", type=int, metavar="N", help="sizes of the trees of many files")
    options = parser.parse_args()
    counts = scale.COUNTS if options.files is None else options.files

    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    try:
        source = cleaned(shared())
        compared = list(codec_pairs.compared(source, SCRATCH, tell, options.pairs))
        missed = [row.pair.ours for row in compared if row.misses]
        costs = list(engine.costs(source, SCRATCH, tell, list(dict.fromkeys([*engine.ALWAYS, *missed]))))
        grown = list(scale.grown(counts, SCRATCH, tell))
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
        rows = {"pairs": [*map(asdict, compared)], "costs": [*map(asdict, costs)], "scale": [*map(asdict, grown)]}
        print(json.dumps(about | rows, indent=1))
        return
    print(report.heading(about))
    for part in (report.of_pairs(compared), report.of_costs(costs), report.of_misses(compared), report.of_scale(grown)):
        if part:
            print(f"\n{part}")


if __name__ == "__main__":
    main()
