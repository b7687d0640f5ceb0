"""The two programs that are compared, each as it is run by people: a process with its cold start."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.measure import Run, run


def mksquashfs(source: Path, image: Path, parameters: Sequence[str]) -> Run:
    """The installed mksquashfs, from a directory to a new image."""
    image.unlink(missing_ok=True)
    measured = run(["mksquashfs", str(source), str(image), "-noappend", "-no-progress", "-quiet", *parameters])
    return replace(measured, size=image.stat().st_size)


def ltsp_image(source: Path, base: Path, parameters: Sequence[str]) -> Run:
    """`ltsp image` from a directory to a published version with its kernel, into a base directory that was empty.

    All that it does for people it does here: clean-up, hashes, checks, fsync and publishing.
    """
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    program = Path(sys.executable).with_name("ltsp")
    measured = run(
        [
            str(program),
            f"--base-dir={base}",
            f"--tftp-dir={base}/tftp",
            "image",
            "--ionice=",  # mksquashfs runs at ordinary priority too
            f"--mksquashfs-params={' '.join(parameters)}",
            str(source.absolute()),
        ]
    )
    return replace(measured, size=(base / "images" / f"{source.name}.img").stat().st_size)
