"""After images were removed, by command or by hand: the menu, the versions, and messages."""

from __future__ import annotations

import os

import pytest

from commands.test_ipxe import Server
from commands.test_versions import RecordingReport
from ltsp.boot.menu import Menu, MenuEntry, remove_entries
from ltsp.build.batch import update_after_publish
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import parse_conf
from ltsp.settings.version_options import VersionsOptions
from publish.labelled_images import contents, image


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path)


@pytest.fixture
def store(server):
    store = Store(str(server.base), str(server.tftp))
    for name in ("lab", "office"):
        with store.locked(name) as locked, locked.stage_image() as stage:
            stage.image.write(image(name))
            stage.publish(contents(name))
    server.run()
    return store


def followed(server, **options):
    report = RecordingReport()
    ltsp = LtspOptions(base_dir=str(server.base), tftp_dir=str(server.tftp))
    update_after_publish(ltsp, parse_conf(b"", "ltsp.conf"), VersionsOptions(**options), report)
    return report.lines


def test_a_removed_image_has_no_menu_entry(server, store):
    before = server.menu.read_text()
    assert "item lab " in before
    with store.locked("lab") as locked:
        locked.remove_all()
    assert followed(server) == [f"replaced {server.menu}"]
    after = server.menu.read_text()
    assert "lab" not in [line.strip(":") for line in after.splitlines()]
    server.run()
    wanted = server.menu.read_text()
    assert [line for line in after.splitlines() if "default" not in line] == [
        line for line in wanted.splitlines() if "default" not in line
    ]


def test_an_image_deleted_by_hand_is_removed_from_clients_and_then_from_disk(server, store):
    os.unlink(store.paths("lab").image)
    first = followed(server)
    assert any("lab.img was deleted by hand, but 1 version of lab" in line for line in first)
    assert "item lab " not in server.menu.read_text()
    assert not os.path.exists(store.paths("lab").pointer)
    assert len(store.versions("lab")) == 1
    assert any("deleted by hand" in line for line in followed(server)), "as long as there is something left"
    last = followed(server, keep_days=0)
    assert "lab.img was deleted by hand; its remaining files have been removed" in last
    assert not os.path.exists(store.paths("lab").versions)
    assert followed(server) == []
    assert store.names() == ["office"]


def test_a_new_menu_reports_omitted_images(server, store):
    os.unlink(store.paths("lab").image)
    assert "lab.img was deleted by hand" in server.run()


def test_only_entries_are_removed_from_a_menu():
    menu = Menu("/srv/ltsp", (MenuEntry("lab", "The lab"), MenuEntry("lab2", "Two")), (MenuEntry("lab", "A chroot"),))
    text = menu.text()
    kept = remove_entries(text, {"lab", "nope", "_boot", "r_lab"})
    assert set(text.splitlines()) - set(kept.splitlines()) == {"item lab The lab", ":lab", "set ltsp-name lab"} - {
        "set ltsp-name lab"  # the chroot's entry has that line too
    }
    assert "item lab2 Two" in kept
    assert ":r_lab" in kept
    assert remove_entries(kept, {"lab"}) == ""
