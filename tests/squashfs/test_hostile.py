"""R10: whatever an image holds, reading it ends soon, in little memory, and with a FormatError if not with a tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from squashfs import mutants, seeds

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src"
PROCESSES = 2

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return seeds.make(tmp_path_factory.mktemp("seeds"))


def survive(images: list[Path], seed: int, count: int, scratch: Path) -> dict[str, int]:
    """Fates of so many mutants, in processes that may take 512 MiB more than an idle one."""
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE}:{TESTS}"}
    program = [sys.executable, mutants.__file__]
    runs = [
        subprocess.Popen(
            [*program, str(seed + run), str(count // PROCESSES), *images],
            env=environment,
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in range(PROCESSES)
    ]
    total: dict[str, int] = {}
    for run in runs:
        output, errors = run.communicate()
        assert run.returncode == 0, errors
        for fate, number in json.loads(output).items():
            total[fate] = total.get(fate, 0) + number
    return total


def test_2000_mutants_are_read_or_refused(images, chance, tmp_path):
    fates = survive(images, chance.randrange(2**32), 2000, tmp_path)
    assert sum(fates.values()) == 2000
    # About a tenth is read; with half of that, chance alone does not fail the test in a lifetime.
    assert fates["refused"] > 100
    assert fates["read"] > 100


@pytest.mark.torture
def test_100000_mutants_are_read_or_refused(images, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    fates = survive(images, chance.randrange(2**32), count, tmp_path)
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of squashfs images: {fates}")
