"""R10: whatever a disk holds, reading it ends soon, in little memory, and with an error that names what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from disk import mutants, seeds

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src"
PROCESSES = 2

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    return seeds.make(tmp_path_factory.mktemp("seeds"))


def survive(disks: list[Path], seed: int, count: int, scratch: Path) -> dict[str, int]:
    """Fates of so many mutants, in processes that may take 512 MiB more than an idle one."""
    runs = [
        subprocess.Popen(
            [sys.executable, mutants.__file__, str(seed + run), str(count // PROCESSES), *disks],
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{TESTS}"},
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


def test_1000_mutants_are_read_or_refused(disks, chance, tmp_path):
    fates = survive(disks, chance.randrange(2**32), 1000, tmp_path)
    assert sum(fates.values()) == 1000
    assert fates["refused"] > 50
    assert fates["read"] > 50


@pytest.mark.torture
def test_100000_mutants_are_read_or_refused(disks, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    fates = survive(disks, chance.randrange(2**32), count, tmp_path)
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of disks and their tables: {fates}")
