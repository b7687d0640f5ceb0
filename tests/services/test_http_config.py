from __future__ import annotations

import subprocess

import pytest

from ltsp.errors import LtspError
from ltsp.services.http_config import UNIT_NAME, format_http_unit


@pytest.mark.oracle
@pytest.mark.parametrize("directory", ["/srv/ltsp", "/srv/my images", '/srv/100%$HOME"\\'])
def test_systemd_accepts_the_unit(tmp_path, directory):
    (tmp_path / UNIT_NAME).write_text(format_http_unit(["/bin/true", f"--base-dir={directory}"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / UNIT_NAME], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_words_reach_the_program_as_they_are():
    assert 'ExecStart="/bin/ltsp" "--base-dir=/a b%%c$$d\\"e\\\\"\n' in format_http_unit(
        ["/bin/ltsp", '--base-dir=/a b%c$d"e\\']
    )


@pytest.mark.parametrize("word", ["/srv/\n", "/srv/ä", "/srv/\x1b"])
def test_words_that_a_unit_cannot_contain_are_refused(word):
    with pytest.raises(LtspError, match="cannot contain"):
        format_http_unit([word])
