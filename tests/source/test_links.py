"""What a system's own links lead to stays out of images whatever the system is kept in, and is not walked through."""

from __future__ import annotations

import os
import subprocess

import pytest

from corpus.make_rules import rules
from corpus.recording_report import RecordingReport
from corpus.site import Site, listing
from ltsp.build import exclusions
from ltsp.build.read_source import open_selected_tree
from ltsp.source.directory import scan
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults

CANARY = "CANARY-51c3"
MOVED = {
    "home": ("var/home", "anna/.ssh/id_rsa"),
    "root": ("/var/roothome", ".ssh/id_rsa"),
    "var/lib/mysql": ("/data/mysql", "ibdata1"),
    "etc/ssl/private": ("../../data/keys", "server.key"),
    "etc/ssh/ssh_host_rsa_key": ("/data/host.key", ""),
    "var/spool/mail": ("../mail", "anna"),
}
"""By each link: where it leads, and what lies there."""
NAMED = {
    "etc/fstab": "/data/pg /var/lib/postgresql none bind 0 0\n",
    "etc/redis/redis.conf": f"requirepass {CANARY}\ndir /data/redis\n",
    "data/pg/base/1": CANARY,
    "data/redis/dump.rdb": CANARY,
}
"""Places that settings name, one in a directory that is left out itself."""


@pytest.fixture
def site(tmp_path):
    return Site.make(tmp_path)


@pytest.fixture
def lab(site):
    """A system most of whose private places are links."""
    root = site.system("origin", {"var/mail/.keep": "", "data/anna-b/notes": CANARY} | NAMED)
    root.rename(site.base.parent / "origin")
    root = site.base.parent / "origin"
    for link, (target, inside) in MOVED.items():
        at = root / link
        if at.is_dir() and not at.is_symlink():
            subprocess.run(["rm", "-r", at], check=True)
        at.parent.mkdir(parents=True, exist_ok=True)
        place = root / os.path.normpath(os.path.join("/", os.path.dirname(link), target)).lstrip("/")
        file = place / inside if inside else place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CANARY)
        at.symlink_to(target)
    (root / "var/home/anna-b").symlink_to("/data/anna-b")
    return root


def squashed(root, at):
    subprocess.run(["mksquashfs", root, at / "o.img", "-quiet", "-no-progress", "-comp", "gzip"], check=True)
    return f"{at}/o.img"


def archived(root, at):
    subprocess.run(["tar", "-C", root, "-cf", at / "o.tar", "."], check=True)
    return f"{at}/o.tar"


def on_a_disk(root, at):
    disk = at / "o.raw"
    with disk.open("wb") as file:
        file.truncate(80 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", root, disk], check=True)
    return f"{disk}"


def combined(root, at):
    """Its /var on a disk of its own, as it were."""
    subprocess.run(["cp", "-a", root, at / "base"], check=True)
    (at / "base/var").rename(at / "var")
    (at / "base/var").mkdir()
    return f"{at}/base,,{at}/var,subdir=var"


KINDS = {"a directory": lambda root, _at: str(root), "squashfs": squashed, "a tar": archived, "a disk": on_a_disk}
KINDS |= {"two parts": combined}


@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_links_lead_to_stays_out(make, site, lab, tmp_path):
    site.ltsp("image", make(lab, tmp_path), "--name=lab")
    files = listing(site.image("lab"))
    for link, (target, inside) in MOVED.items():
        place = os.path.normpath(os.path.join("/", os.path.dirname(link), target)).lstrip("/")
        if inside:
            assert f"{place}/{inside}" not in files
            assert place in files, "the directory stays"
            assert link in files, "the link stays"
        else:
            assert place not in files
    whole = tmp_path / "whole"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", whole, site.image("lab")], check=True, capture_output=True)
    found = subprocess.run(["grep", "-rl", CANARY, whole], capture_output=True, text=True, check=False).stdout
    assert found == ""
    assert {"data/pg", "data/redis", "etc/redis"} <= set(files)


@pytest.mark.oracle
@pytest.mark.root
def test_the_dry_run_says_which_rule_leaves_out_what_is_behind_a_link(site, lab):
    said = site.ltsp("image", str(lab), "--name=lab", "--dry-run").stdout
    (row,) = [line for line in said.splitlines() if line.startswith("home/*")]
    assert "var/home/anna" in row


@pytest.mark.root
def test_moved_homes_are_not_walked_through(site, lab, monkeypatch):
    """Nothing below them is even listed, but for the bounded look at sizes: there may be millions of files."""
    monkeypatch.setattr(exclusions, "MAX_MEASURED_ENTRIES", 0)
    (lab / "var/home/anna/deep").mkdir()
    listed = []
    real = os.scandir

    def listing_of(directory):
        listed.append(os.fstat(directory).st_ino)
        return real(directory)

    monkeypatch.setattr(scan.os, "scandir", listing_of)
    with open_selected_tree(find_source(str(lab), str(site.base)), rules(), 0, Faults(), RecordingReport()) as chosen:
        assert chosen.tree.get("var/home").entries == {}
    assert (lab / "etc/ssh").stat().st_ino in listed
    emptied = ["var/roothome", "data/mysql", "data/pg", "data/redis"]
    emptied += ["data/anna-b", "var/home/anna", "var/home/anna/deep"]
    assert not {(lab / path).stat().st_ino for path in emptied} & set(listed)


@pytest.mark.root
def test_a_link_that_leads_out_of_the_tree_is_named(site):
    root = site.system("lab")
    subprocess.run(["rm", "-r", root / "home"], check=True)
    (root / "home").symlink_to("/mnt/disk/home")
    said = site.ltsp("image", "lab").stderr
    assert "/home is a link to /mnt/disk/home, which is not in the source" in said


@pytest.mark.root
def test_what_the_system_needs_stays_whatever_a_link_says(site):
    root = site.system("lab", {"usr/share/doc/a": "a"})
    (root / "root").rmdir()
    (root / "root").symlink_to("/")
    said = site.ltsp("image", "lab").stderr
    assert "/root leads to /, but the system needs /:" in said
    assert {"usr/share/doc/a", "etc/passwd"} <= listing(site.image("lab"))


@pytest.mark.root
def test_nothing_is_published_where_rules_cannot_be_followed(site, lab):
    (lab / "etc/fstab").write_text("/b/c /home none bind\n/home/d /b none bind\n")
    said = site.ltsp("image", str(lab), "--name=lab", status=1).stderr
    assert "too many links and bind mounts in a chain (limit 40)" in said
    assert not site.image("lab").exists()
