"""Run the two programs to compare like a user: each as a new process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.process_cost import Run, run


def mksquashfs(source: Path, image: Path, parameters: Sequence[str]) -> Run:
    """Run the installed mksquashfs on a directory, with a new image."""
    image.unlink(missing_ok=True)
    measured = run(["mksquashfs", str(source), str(image), "-noappend", "-no-progress", "-quiet", *parameters])
    return replace(measured, size=image.stat().st_size)


def ltsp_image(source: Path | str, base: Path, parameters: Sequence[str], options: Sequence[str] = ()) -> Run:
    """Run `ltsp image` on a directory or another source, and publish a version with its kernel in an empty base
    directory; without `parameters`, --mksquashfs-params is omitted.

    Nothing is left out: clean-up, hashes, checks, fsync and publishing.
    """
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    program = Path(sys.executable).with_name("ltsp")
    given = [f"--mksquashfs-params={' '.join(parameters)}"] if parameters else []
    measured = run(
        [
            str(program),
            f"--base-dir={base}",
            f"--tftp-dir={base}/tftp",
            "image",
            "--ionice=",  # mksquashfs runs at ordinary priority too
            "--name=lab",
            *given,
            *options,
            str(source.absolute() if isinstance(source, Path) else source),
        ]
    )
    return replace(measured, size=(base / "images" / "lab.img").stat().st_size)
