"""An image that is about to be made from another source than before: that is said before the work."""

from __future__ import annotations

import json
import subprocess

import pytest

from corpus.site import Site
from corpus.system import make_system

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    site.ltsp("image", "--quiet", "lab")
    return site


def recorded(site: Site, name: str) -> str:
    (manifest,) = (site.base / "images/.versions" / name).glob("*/manifest.json")
    return json.loads(manifest.read_bytes())["source"]["argument"]


def test_the_manifest_has_a_path_that_means_the_same_from_anywhere(site):
    assert recorded(site, "lab") == f"{site.base}/lab"
    make_system(site.home / "room")
    site.ltsp("image", "--quiet", "./room")
    assert recorded(site, "room") == f"{site.home}/room"


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_another_source_of_an_image_is_reported_before_the_build(site, dry):
    make_system(site.home / "lab", {"etc/motd": "another\n"})
    said = site.ltsp("image", "--quiet", *dry, "./lab").stderr
    assert f"the image lab was made from {site.base}/lab before, and is now made from {site.home}/lab" in said
    assert "--name=OTHER" in said


def test_a_moved_source_is_reported_once(site):
    before = site.image("lab").stat().st_ino
    (site.base / "lab").rename(site.home / "lab")
    assert "was made from" in site.ltsp("image", "--quiet", "./lab").stderr
    assert recorded(site, "lab") == f"{site.home}/lab"
    assert site.image("lab").stat().st_ino == before
    assert site.ltsp("image", "--quiet", "./lab").stderr == ""
    assert "unchanged lab" in site.ltsp("image", "lab").stdout, (
        "by its own name it is made from where the source is now"
    )


def test_a_kernel_from_another_source_is_reported(site):
    """Clients would boot it with an image that lacks its modules."""
    make_system(site.home / "lab", {"etc/motd": "another\n"})
    said = site.ltsp("kernel", "./lab").stderr
    assert f"the image lab was made from {site.base}/lab, but its kernel now comes from ./lab: run `ltsp image`" in said
    for same in ("lab", f"{site.base}/lab"):
        assert "was made from" not in site.ltsp("kernel", same).stderr


@pytest.mark.parametrize("argument", ["lab", "{base}/lab", "{base}/lab/", "{base}/../ltsp/lab"])
def test_the_same_source_is_the_same_however_it_is_written(site, argument):
    assert site.ltsp("image", "--quiet", argument.format(base=site.base)).stderr == ""


def test_the_disk_next_to_another_is_not_a_build_of_it(site):
    """What `ltsp image ./lab-flat.vmdk` replaced was the image of another machine."""
    disk = site.home / "lab-flat.vmdk"
    subprocess.run(["truncate", "-s", "16M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-d", site.base / "lab", disk], check=True)
    before = site.image("lab").stat().st_ino
    site.ltsp("image", "--quiet", "./lab-flat.vmdk")
    assert site.image("lab").stat().st_ino == before
    assert site.image("lab-flat").exists()


@pytest.mark.parametrize("options", ["loop,ro,fstype=ext4", "fstype=ext4,ro,loop", "ro"])
def test_options_in_another_order_are_the_same_source(site, options):
    disk = site.home / "room.img"
    subprocess.run(["truncate", "-s", "16M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-d", site.base / "lab", disk], check=True)
    site.ltsp("image", "--quiet", "./room.img,ro,loop,fstype=ext4")
    assert site.ltsp("image", "--quiet", "--dry-run", f"./room.img,{options}").stderr == ""
