"""Small systems from bug reports: each script makes its own input, runs ltsp, and prints PASS or FAIL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.busyboxes import busybox_of

HERE = Path(__file__).parent
LTSP = Path(sys.executable).with_name("ltsp")


MARKS = [pytest.mark.oracle, pytest.mark.root]
SLOW = {"busybox-138"}
"""These boot a machine."""
GIVEN = {"busybox-138": lambda: {"BUSYBOX": str(busybox_of("sid"))}}
"""What a script would download itself: an unreachable mirror must not skip it."""


def _case(script):
    more = [pytest.mark.boot, pytest.mark.slow] if script.stem in SLOW else []
    return pytest.param(script, id=script.stem, marks=[*MARKS, *more])


@pytest.mark.parametrize("script", [_case(script) for script in sorted(HERE.glob("*.sh"))])
def test_a_reported_system_works(script, tmp_path):
    ran = subprocess.run(
        [script],
        env=os.environ | {"LTSP": str(LTSP), "TMPDIR": str(tmp_path)} | GIVEN.get(script.stem, dict)(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    verdict = ran.stdout.splitlines()[-1:] or [ran.stderr]
    assert (ran.returncode, verdict[0][:5]) == (0, "PASS:"), ran.stdout + ran.stderr
