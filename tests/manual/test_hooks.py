"""PRE_IMAGE_x, POST_IMAGE_x and image.d, with the real command."""

from __future__ import annotations

import pytest

from corpus.site import Site, content, listing

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    return site


def test_commands_run_before_and_after_in_the_order_of_their_names(site):
    site.conf.write_text(
        f"""[server]
        PRE_IMAGE_2="echo two >> {site.home}/log"
        PRE_IMAGE_1="echo one $LTSP_IMAGE >> {site.home}/log"
        POST_IMAGE_1='test -e "$LTSP_BASE_DIR/images/$LTSP_IMAGE.img" && echo published >> {site.home}/log'
        """.replace("$LTSP_IMAGE >>", "lab >>")
    )
    site.ltsp("image", "lab")
    assert (site.home / "log").read_text() == "one lab\ntwo\npublished\n"


def test_a_command_that_fails_ends_the_build_before_anything_is_published(site):
    site.ltsp("image", "lab")
    site.conf.write_text("[server]\nPRE_IMAGE_X='echo no disk; exit 4'\n")
    before = site.everything()
    done = site.ltsp("image", "lab", status=1)
    assert "PRE_IMAGE_X" in done.stderr
    assert "exit status 4" in done.stderr
    assert site.everything() == before


def test_a_command_that_fails_afterwards_leaves_the_image_published_and_reported(site):
    site.conf.write_text("[server]\nPOST_IMAGE_X='exit 4'\n")
    done = site.ltsp("image", "lab", status=1)
    assert "published lab" in done.stdout
    assert "the image of lab stays published" in done.stderr
    assert site.image("lab").exists()


@pytest.mark.root
def test_what_an_executable_changes_in_the_root_wins_and_the_source_stays(site):
    script = site.conf.parent / "image.d/10-motd"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nset -e\necho changed > "$LTSP_ROOT/etc/motd"\nrm "$LTSP_ROOT/usr/bin/tool"\n')
    script.chmod(0o755)
    site.ltsp("image", "lab")
    assert content(site.image("lab"), "etc/motd") == "changed\n"
    assert "usr/bin/tool" not in listing(site.image("lab"))
    assert not (site.base / "lab/etc/motd").exists()
    assert (site.base / "lab/usr/bin/tool").exists()


@pytest.mark.root
def test_a_squashfs_can_be_changed_likewise(site):
    site.ltsp("image", "lab")
    site.conf.write_text("[server]\nPRE_IMAGE_X='echo changed > $LTSP_ROOT/etc/motd'\n")
    site.ltsp("image", str(site.image("lab")), "--name=copy")
    assert content(site.image("copy"), "etc/motd") == "changed\n"
