"""The facts that are read from an image, and the layer for it."""

from __future__ import annotations

import pytest

from ltsp.errors import FormatError
from ltsp.initrd.site.image_layer import ImageAccountFacts, build_image_layer
from ltsp.initrd.site.layer import build_tree, make_text_file
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata, Symlink
from ltsp.tree.tree import Tree


def test_links_are_followed_inside_the_image():
    tree = Tree(
        Directory(
            Metadata(0o755),
            {
                "etc": Directory(Metadata(0o755), {"passwd": Symlink(Metadata(0o777), "/data/passwd")}),
                "data": Directory(Metadata(0o755), {"passwd": make_text_file("root:x:0:0::/:\n", 0o600)}),
            },
        )
    )
    facts = ImageAccountFacts.of(tree)
    assert facts.texts == {"etc/passwd": b"root:x:0:0::/:\n"}
    assert facts.owners["etc/passwd"].mode == 0o600


def test_the_desktop_is_that_of_kde_or_the_first():
    paths = {
        "usr/share/xsessions/a.desktop": make_text_file(""),
        "usr/share/xsessions/plasma.desktop": make_text_file(""),
    }
    assert ImageAccountFacts.of(build_tree(paths)).session == "plasma.desktop"
    assert (
        ImageAccountFacts.of(build_tree({"usr/share/wayland-sessions/sway.desktop": make_text_file("")})).session
        == "sway.desktop"
    )
    assert (
        ImageAccountFacts.of(build_tree({"usr/share/xsessions/x\n[General].desktop": make_text_file("")})).session == ""
    )


def test_a_file_that_is_too_large_is_refused():
    tree = build_tree({"etc/gdm3/daemon.conf": File(Metadata(0o644), Bytes(bytes(2 << 20)))})
    with pytest.raises(FormatError, match="larger than 1 MiB"):
        ImageAccountFacts.of(tree)


def test_account_files_keep_mode_and_owner_and_lose_their_time():
    facts = ImageAccountFacts({}, {"etc/shadow": Metadata(0o100640, 0, 42, 1234, (("user.a", b"b"),))})
    made = build_image_layer(facts, {"etc/shadow": b"a\n", "etc/gshadow": b"b\n"}, ("bob",), has_autologin=False)
    assert made.files["etc/shadow"].metadata == Metadata(0o640, 0, 42)
    assert set(made.files) == {"etc/shadow"}
    assert made.shadow == {"bob": "!"}


def test_settings_of_the_image_come_before_those_of_ltsp():
    facts = ImageAccountFacts({"etc/gdm3/custom.conf": b"[daemon]\nA=b"}, {}, "gnome.desktop")
    made = build_image_layer(facts, {}, (), has_autologin=True)
    assert made.parts == {"etc/gdm3/custom.conf": {"00-image": "[daemon]\nA=b\n"}}
    assert made.files["etc/sddm.conf.d/80-ltsp-session.conf"].content.data == b"[Autologin]\nSession=gnome.desktop\n"
    assert build_image_layer(facts, {}, (), has_autologin=False).is_empty
