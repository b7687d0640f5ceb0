"""Write requirements/{runtime,dev}.txt with pip-tools: exact versions and hashes of the requirements in pyproject.toml.

`runtime.txt` is for users, `dev.txt` adds the requirements of the tests and of an editable install. The hashes cover
every file of a release, so one lock works for Python 3.11 to 3.13 on x86-64 and arm64.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = """\
# Exact versions and hashes of {what}.
# Written by `make lock` from pyproject.toml; not edited by hand.
"""


def read_requirements() -> dict[str, list[str]]:
    """The requirements of each lock file, as pyproject.toml states them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    runtime = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    build = [
        *pyproject["build-system"]["requires"],
        "editables>=0.5",
    ]  # hatchling needs editables for `pip install -e`
    return {"runtime": runtime, "dev": [*runtime, *pyproject["dependency-groups"]["dev"], *build]}


def compile_lock(requirements: list[str], upgrade: list[str]) -> str:
    """The output of pip-compile. Only the default index is used, regardless of pip's configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {name: os.environ[name] for name in ("PIP_CERT", "PIP_PROXY") if name in os.environ}
    options = ["--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--annotation-style=line"]
    quiet = ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options", "--quiet"]
    run = subprocess.run(
        [sys.executable, "-m", "piptools", "compile", *options, *quiet, *upgrade, "--output-file=-", "-"],
        input="\n".join(sorted(set(requirements))),
        env=environment | {"PIP_CONFIG_FILE": os.devnull},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    lines = (line.split("  # via ")[0].rstrip() for line in run.stdout.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.lstrip().startswith("#"))


def main() -> None:
    what = {
        "runtime": "what ltsp needs to run",
        "dev": "what ltsp needs to run, to be tested and to be installed in place",
    }
    for name, requirements in read_requirements().items():
        text = compile_lock(requirements, sys.argv[1:])
        (ROOT / "requirements" / f"{name}.txt").write_text(HEADER.format(what=what[name]) + text)


if __name__ == "__main__":
    main()
