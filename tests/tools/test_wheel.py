"""The package that `pipx install` installs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent


def test_a_wheel_has_the_lists_the_manual_pages_and_completion(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition(".data/data/share/")[2] for name in names if ".data/data/share/" in name}
    assert {"man/man8/ltsp.8", "man/man8/ltsp-image.8", "man/man5/ltsp.conf.5"} <= shared
    assert {"bash-completion/completions/ltsp", "zsh/site-functions/_ltsp"} <= shared
    assert {"ltsp/transform/lists/image.excludes", "ltsp/transform/lists/image.secrets"} <= set(names)
