"""What the stages of a build cost: the same work as in `ltsp image`, in a process of its own, timed from inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ltsp.host.root import Root
from ltsp.source.scan import Scan
from ltsp.squashfs.check import check
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions, write
from ltsp.tree.faults import Faults
from ltsp.tree.selection import everything

CODECS = (("gzip", 6), ("zstd", 3), ("zstd", 9), ("lz4", None))


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, by the clock where nothing else is said."""

    name: str
    scan: float
    contents: float
    """Reading, hashing, compressing and writing the files."""
    tables: float
    sha256: float
    """Reading the finished image back; beside `check` and `fsync` in a real run."""
    check: float
    """The superblock, and every block of the tables, before an image is published."""
    fsync: float
    processor: float
    """Of all threads, while the image was written."""
    codecs: float
    """Of `processor`, inside the codec."""
    hashes: float
    """Of `processor`, in telling duplicates by their sha256."""


def costs(source: Path, scratch: Path, tell: Callable[[str], None]) -> Iterator[Costs]:
    """One row for each codec."""
    for name, level in CODECS:
        tell(f"stages of {name}{'' if level is None else f' {level}'}")
        call = [sys.executable, "-m", "bench.engine", str(source), str(scratch / "stages.img"), name, str(level or "")]
        done = subprocess.run(call, stdout=subprocess.PIPE, check=True)
        yield Costs(**json.loads(done.stdout))


def measured(source: str, image: str, compression: Compression) -> Costs:
    """Scan, write, check and fsync, one after the other."""
    faults = Faults()
    with Root.open(os.fsencode(source)) as root, open(image, "w+b", buffering=0) as output:
        began = time.perf_counter()
        tree = Scan(everything, faults).run(root)
        scanned = time.perf_counter()
        written = write(tree, output, WriteOptions(compression), faults)
        finished = time.perf_counter()
        check(output)
        checked = time.perf_counter()
        os.fsync(output)
        synced = time.perf_counter()
        written.sealed.read_back(output.fileno())
        read_back = time.perf_counter()
    seconds = written.seconds
    return Costs(
        str(compression),
        scan=scanned - began,
        contents=seconds.contents,
        tables=seconds.tables,
        sha256=read_back - synced,
        check=checked - finished,
        fsync=synced - checked,
        processor=seconds.cpu,
        codecs=seconds.codec,
        hashes=seconds.hash,
    )


def main() -> None:
    source, image, name, level = sys.argv[1:]
    print(json.dumps(asdict(measured(source, image, Compression(name, int(level) if level else None)))))


if __name__ == "__main__":
    main()
