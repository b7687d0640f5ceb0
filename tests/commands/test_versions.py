"""`ltsp versions` and `ltsp info` with versions, with foreign files and on an empty server."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import pytest

from ltsp.build.version_facts import summarize_changes
from ltsp.commands.info import info
from ltsp.commands.versions import versions
from ltsp.errors import LtspError
from ltsp.publish.manifest import VersionChanges
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.version_options import InfoOptions, VersionsOptions
from publish.labelled_images import NAME, publish, read_served_state


@dataclass
class RecordingReport:
    """A report that records its lines."""

    lines: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    def step(self, _title, _total=None):
        return nullcontext()

    def say(self, text):
        self.lines.append(text)

    note = warn = failure = say

    def table(self, _headings, rows):
        self.rows += [tuple(row) for row in rows]

    def result(self, facts):
        self.facts = json.loads(json.dumps(facts))


@pytest.fixture
def places(tmp_path):
    return LtspOptions(base_dir=str(tmp_path / "srv"), tftp_dir=str(tmp_path / "tftp"), home_dir=str(tmp_path))


@pytest.fixture
def store(places):
    store = Store(places.base_dir, places.tftp_dir)
    for label in ("one", "two", "three"):
        publish(store, label)
    return store


def run(places, *names, **options):
    report = RecordingReport()
    versions(list(names), replace(VersionsOptions(), **options), places, Conf("ltsp.conf"), report)
    return report


def listed(store):
    return [each.id for each in store.versions(NAME)]


def test_versions_are_listed_with_their_state(places, store):
    report = run(places)
    assert report.lines == ["lab"]
    assert [row[0] for row in report.rows] == listed(store)
    assert [row[2] for row in report.rows] == ["one", "two", "three"]
    assert [row[3] for row in report.rows] == ["", "old", "current"]
    assert report.rows[2][4] == "+9.8 KiB; kernel two -> three"


def test_json_output_is_complete(places, store):
    facts = run(places, NAME, json=True).facts[NAME]
    assert facts["current"] == listed(store)[2]
    assert facts["before"] == listed(store)[1]
    assert [each["kernel"] for each in facts["versions"]] == ["one", "two", "three"]
    assert [each["current"] for each in facts["versions"]] == [False, False, True]


def test_a_version_is_used_pinned_and_removed_by_a_prefix(places, store):
    first, second, third = listed(store)
    report = run(places, NAME, pin=(second,), use=first)
    assert report.lines[:2] == [f"lab: pinned {second}", f"lab: clients now boot {first}"]
    assert [row[3] for row in report.rows] == ["current", "pinned", "old"]
    assert read_served_state(store).menu == ("one", "one")
    run(places, NAME, unpin=(second,))
    run(places, NAME, remove=(second[:16],))
    assert listed(store) == [first, third]


def test_pruning_keeps_the_requested_number(places, store):
    run(places, prune=True, keep=1)
    assert len(listed(store)) == 1
    assert read_served_state(store).menu == ("three", "three")


def test_an_image_is_removed_with_all_of_its_versions(places, store):
    report = run(places, NAME, remove_all=True)
    assert report.lines == ["lab: removed the image and its menu entry: 3 versions, 156 KiB"]
    assert not store.state(NAME).exists
    assert run(places, json=True).facts == {}
    with pytest.raises(LtspError, match="no image lab in"):
        run(places, NAME, remove_all=True)


def test_an_image_deleted_by_hand_is_reported_by_every_list_of_images(places, store):
    os.unlink(store.paths(NAME).image)
    for report in (run(places), RecordingReport()):
        if not report.lines:
            info(InfoOptions(), places, report)
        line = next(line for line in report.lines if "deleted by hand" in line)
        assert "3 versions of lab (156 KiB) remain" in line
        assert "ltsp versions lab --remove-all" in line
        assert f"--use={listed(store)[2]}" in line
    assert run(places, json=True).facts[NAME]["deserted"]
    run(places, NAME, use=listed(store)[0])
    assert not run(places, json=True).facts[NAME]["deserted"]


def test_versions_removed_by_retention_are_reported_with_the_reason(places, store):
    first, second, third = listed(store)
    report = run(places, NAME, use=second, keep_share=0)
    assert report.lines[1].startswith(f"lab: removed   version {first}, 49 KiB: versions kept by KEEP_DAYS")
    assert listed(store) == [second, third]


def test_an_ambiguous_prefix_is_refused(places, store):
    with pytest.raises(LtspError, match="several versions that begin with 20"):
        run(places, NAME, use="20")
    assert read_served_state(store).menu == ("three", "three")


def test_an_unknown_image_is_named_and_no_directory_is_created(places, tmp_path):
    with pytest.raises(LtspError, match="no image lab in"):
        run(places, NAME, prune=True)
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_marked(places, store):
    path = store.paths("disk").image
    with open(path, "wb") as file:
        file.write(b"x" * 2048)
    (row,) = run(places, "disk").rows
    assert row[:2] == ("disk.img", "2.0 KiB")
    assert row[3] == "foreign"


def test_packages_and_paths_are_printed_safely():
    changes = VersionChanges(
        0, {"a\x1b[2J": "1"}, {}, {"b": ("1\n", "2")}, True, ("usr/bin/\udcff",), (), ("", "6.1"), False, ()
    )
    assert summarize_changes(changes) == (
        r"1 package added: a\x1b[2J; 1 package updated: b 1\n -> 2; new setuid: usr/bin/\xff; kernel none -> 6.1"
    )


def test_info_lists_server_sources_and_images(places, store, tmp_path):
    (tmp_path / "srv" / "chroot" / "proc").mkdir(parents=True)
    (tmp_path / "srv" / "vm.img").write_bytes(b"")
    (tmp_path / "srv" / "a chroot" / "proc").mkdir(parents=True)
    report = RecordingReport()
    info(InfoOptions(json=True), places, report)
    assert report.facts["sources"] == {
        "a chroot": "chroot, but its name must not contain a space",
        "chroot": "chroot",
        "vm": "virtual machine disk",
    }
    assert report.facts["images"][NAME]["current"] == listed(store)[2]
    assert report.facts["directories"]["tftp_dir"]["space"]["free"] > 0
    report = RecordingReport()
    info(InfoOptions(), places, report)
    assert (NAME, listed(store)[2], "59 KiB", "three", "3") in report.rows


def test_info_works_on_an_empty_server(places):
    report = RecordingReport()
    info(InfoOptions(), places, report)
    assert ("base_dir", places.base_dir, "missing", "") in report.rows
