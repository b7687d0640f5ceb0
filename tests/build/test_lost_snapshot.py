"""A snapshot that overflows: no image is made, whatever could be read of it."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from corpus.site import Site
from ltsp.cli import main
from ltsp.source.snapshot import snapshot
from ltsp.source.snapshot.frozen import FrozenMount

LOST = "the snapshot of vg0/root overflowed: too much changed while it was being read"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """`lab` is published; then its chroot is on a volume whose snapshot is lost while the image is written."""
    site = Site.make(tmp_path)
    site.system("lab")
    site.ltsp("image", "--ionice=", "lab")
    (site.base / "lab/etc/new").touch()
    asked = []

    def invalid_reason():
        asked.append(True)
        return LOST if len(asked) > 2 else ""

    @contextmanager
    def taken(live, _wanted):
        with live.root.__class__(os.dup(live.root.descriptor)) as root:
            yield [FrozenMount(live.path, "lvm", "vg0/root", root, 0, invalid_reason=invalid_reason)]

    monkeypatch.setattr(snapshot, "_TAKE_SNAPSHOT", {"lvm": taken})
    monkeypatch.setattr(snapshot, "_choose_kind", lambda _mount, asked_for: "lvm" if asked_for == "auto" else "")
    return site


@pytest.mark.parametrize("words", [(), ("--skip-unreadable",)])
def test_a_snapshot_lost_while_it_is_read_is_not_published(site, capsys, words):
    before = site.everything()
    status = main.run(["image", "--ionice=", *words, "lab"], site.environment())
    said = capsys.readouterr().err
    assert status == 1
    assert f"chroot {site.base}/lab could not be read to its end: {LOST}: " in said
    assert "--snapshot=none" in said
    assert site.everything() == before


def test_the_live_directory_is_not_checked_for_it(site):
    assert main.run(["image", "--ionice=", "--snapshot=none", "lab"], site.environment()) == 0
