"""The client's init from its first line to the image's own, on every busybox and with dash as its shell."""

from __future__ import annotations

import pytest

from corpus import pocket_client
from corpus.busyboxes import path_of

pytestmark = pytest.mark.root

STAGES = ["start", "attach", "overlay", "site", "switch"]


def booted(directory):
    done = pocket_client.boot(directory)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line.removeprefix("ltsp: stage ") for line in lines if line.startswith("ltsp: stage ")] == STAGES
    after = lines[lines.index("ltsp: stage switch") + 1 :]
    assert after == [
        "booted 1",
        "hostname pocket",
        "path /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "motd hello",
        "pre-init ran",
        "cron masked",
        "facts IMAGE=",
    ]
    assert [line for line in lines if not line.startswith("ltsp: ")] == after
    return lines


def test_a_client_gets_to_the_init_of_its_image(tmp_path, busybox):
    """From 1.38 on, the shell of busybox looks for a command in the PATH that stands before it and nowhere else."""
    pocket_client.make(tmp_path, busybox)
    booted(tmp_path)


def test_the_shell_may_be_one_that_finds_programs_by_path_alone(tmp_path):
    pocket_client.make(tmp_path, path_of("installed"), dash=True)
    booted(tmp_path)
