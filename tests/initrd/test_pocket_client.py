"""The client's init from its first line to the image's own, on every busybox and with dash as its shell."""

from __future__ import annotations

import io
import subprocess

import pytest

from corpus import pocket_client
from corpus.busyboxes import path_of
from ltsp.cpio import newc
from ltsp.initrd.site.layer import SiteLayer, build_site_tree

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


def test_the_shell_may_be_one_without_builtin_applets(tmp_path):
    pocket_client.make(tmp_path, path_of("installed"), dash=True)
    booted(tmp_path)


@pytest.mark.oracle
def test_the_file_that_a_client_looks_for_is_the_last_one_of_ltsp_img():
    """So it is missing where the kernel did not read the archive to its end."""
    layers = ("common", "image/lab", "image/zz", "section/0001", "section/9999")
    output = io.BytesIO()
    newc.write_archive(
        build_site_tree(dict.fromkeys(layers, SiteLayer(env={"HOSTNAME": "pc"}, mask=("x.service",))), {}), output
    )
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=output.getvalue(), capture_output=True, check=True)
    assert listed.stdout.splitlines()[-1] == b"ltsp/site/server"


def without_server(directory):
    pocket_client.make(directory, path_of("installed"), site={"section/9999/match": "*\n"})


@pytest.mark.parametrize("words", ["initrd=client.img initrd=ltsp.img", "initrd=lab/initrd.img,ltsp/ltsp.img"])
def test_a_client_whose_settings_were_lost_stops_with_the_remedy(tmp_path, words):
    """As where the kernel could not unpack ltsp.img, or not all of it: its last file is missing."""
    without_server(tmp_path)
    done = pocket_client.boot(tmp_path, f"ltsp.root=file:/image {words}")
    assert done.returncode == 9
    fatal = [line for line in done.stdout.splitlines() if "FATAL" in line]
    assert len(fatal) == 1
    assert fatal[0].startswith("ltsp: FATAL: the kernel did not unpack all of ltsp.img, so this client has no accounts")
    assert "run on the server, " not in fatal[0].split(": ")[2]
    assert "ltsp kernel" in fatal[0].split(": ", 3)[3]
    assert "attach" not in done.stdout


def test_a_client_without_ltsp_img_warns_and_continues(tmp_path):
    without_server(tmp_path)
    done = pocket_client.boot(tmp_path)
    assert done.returncode == 0
    assert "ltsp: warning: no ltsp.img was loaded, so this client has no accounts or settings" in done.stdout
    assert "booted 1" in done.stdout
