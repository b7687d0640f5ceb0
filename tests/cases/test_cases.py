"""Small systems that strangers' reports led to: each script makes its own input, runs ltsp, and prints PASS or FAIL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LTSP = Path(sys.executable).with_name("ltsp")


MARKS = [pytest.mark.oracle, pytest.mark.root]


@pytest.mark.parametrize("script", [pytest.param(s, id=s.stem, marks=MARKS) for s in sorted(HERE.glob("*.sh"))])
def test_what_strangers_reported_works(script, tmp_path):
    ran = subprocess.run(
        [script],
        env=os.environ | {"LTSP": str(LTSP), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    verdict = ran.stdout.splitlines()[-1:] or [ran.stderr]
    assert (ran.returncode, verdict[0][:5]) == (0, "PASS:"), ran.stdout + ran.stderr
