"""The busyboxes used to test the client's shell scripts come from current distribution releases."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tools import busyboxes


def test_the_package_comes_by_suite_and_with_the_settings_of_this_machine():
    proxy = 'Acquire::http::Proxy "http://proxy.example/"'
    call = busyboxes.command("sid", "busybox-static", Path("/x/root"), [proxy], Path("/x/keys"))
    assert call[0] == "mmdebstrap"
    assert {"--include=busybox-static", f"--aptopt={proxy}", "--keyring=/x/keys"} <= set(call)
    assert call[-2:] == ["sid", "/x/root"]


@pytest.mark.root
def test_every_release_since_debian_12_has_a_busybox():
    outputs = [
        subprocess.run([busyboxes.busybox_of(suite)], capture_output=True, text=True, check=True).stdout
        for suite in busyboxes.SUITES
    ]
    releases = sorted(tuple(map(int, re.findall(r"BusyBox v(\d+)\.(\d+)", text)[0])) for text in outputs)
    assert releases[:3] == [(1, 35), (1, 36), (1, 37)]
    assert releases[3] >= (1, 38)
