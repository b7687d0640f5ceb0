"""`make test` runs the same tests regardless of the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
PYTHON = f"""\
#!{sys.executable} -I
import json, os, sys
with open(os.path.join(os.environ["HOME"], "calls"), "a") as file:
    print(json.dumps([sys.argv[1:], dict(os.environ)]), file=file)
"""


@pytest.fixture
def calls(tmp_path):
    """The arguments and the environment of each call of Python that a target makes."""

    def make(target, **environment):
        python = tmp_path / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        # The targets that it stands on are taken as done.
        words = ["make", f"--directory={CHECKOUT}", *(f"--old-file={each}" for each in ("setup", "root", "lint"))]
        subprocess.run(
            [*words, target, f"PYTHON={python}"],
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
        )
        return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    return make


def test_tests_see_only_the_variables_that_the_makefile_names(calls):
    hidden = {"PYTHONUNBUFFERED": "1", "LC_ALL": "de_DE", "LTSP_CONF": "/etc/other.conf"}
    given = {"http_proxy": "http://a b/$HOME", "TERM": "x"}
    for _words, environment in calls("test", **hidden, **given):
        assert environment.keys().isdisjoint({*hidden, "MAKEFLAGS"})
        assert given.items() <= environment.items()
        assert environment["LANG"] == "C.UTF-8"
        assert "/usr/sbin" in environment["PATH"].split(":")


def test_a_run_has_one_seed(calls):
    seeds = set()
    for words, environment in calls("test"):
        seeds.add(environment["LTSP_SEED"])
        seeds.update(word.partition("=")[2] for word in words if word.startswith("--hypothesis-seed="))
    assert len(seeds) == 1
    assert seeds.pop().isdigit()


def test_only_torture_tests_see_the_torture_variable(calls):
    ((_, environment),) = calls("torture")
    assert environment["LTSP_TORTURE"] == "1"
    assert all("LTSP_TORTURE" not in environment for _, environment in calls("test")[1:])
