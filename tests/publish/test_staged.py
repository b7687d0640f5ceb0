"""Complete versions that wait for approval before clients boot them."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import LtspError
from ltsp.publish.gc import Retention
from ltsp.publish.stage import StagedVersion
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from publish.labelled_images import (
    NAME,
    ServedState,
    contents,
    image,
    leftovers,
    publish,
    publish_locked,
    read_served_state,
    stage_locked,
)


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


@pytest.fixture
def locked(store):
    with store.locked(NAME) as locked:
        yield locked


def labels(store, *, staged):
    return [each.manifest.kernel.version for each in store.versions(NAME) if each.staged == staged]


def test_clients_boot_what_they_did_before(store, locked):
    publish_locked(locked, "one")
    before = read_served_state(store)
    staged = stage_locked(locked, "two")
    assert isinstance(staged, StagedVersion)
    assert staged.version.staged
    assert staged.version.damage == ""
    assert read_served_state(store) == before
    assert leftovers(store) == []
    assert locked.state().waiting == staged.version


def test_it_survives_the_next_run_and_what_that_collects(store):
    publish(store, "one")
    with store.locked(NAME) as locked:
        staged = stage_locked(locked, "two").version
    with store.locked(NAME) as locked:
        assert locked.prune(1) == ()
        assert locked.state().waiting == staged
        locked.publish_kernel(contents("older"))
    # A later version is current now, so nobody is waiting for this one.
    assert store.state(NAME).waiting is None
    assert labels(store, staged=True) == []


def test_it_becomes_current_like_any_other_version(store, locked):
    publish_locked(locked, "one")
    outcome = locked.publish_staged(stage_locked(locked, "two"))
    assert isinstance(outcome, PublishedVersion)
    assert read_served_state(store) == ServedState(("two", "two"), "two", "one", "two")
    assert not store.current(NAME).staged
    assert locked.state().waiting is None


def test_a_person_can_choose_it_by_hand(store, locked):
    publish_locked(locked, "one")
    locked.use(stage_locked(locked, "two").version.id)
    assert read_served_state(store).menu == ("two", "two")
    assert labels(store, staged=True) == []


def test_a_first_version_can_wait_too(store, locked):
    staged = stage_locked(locked, "one")
    assert read_served_state(store) == ServedState(None, None, None, None)
    assert store.state(NAME).exists
    locked.publish_staged(staged)
    assert read_served_state(store).menu == ("one", "one")


def test_one_that_waited_makes_room_for_the_next(store, locked):
    publish_locked(locked, "one")
    stage_locked(locked, "two")
    locked.pin(stage_locked(locked, "three").version.id)
    stage_locked(locked, "four")
    assert labels(store, staged=True) == ["three", "four"]
    assert labels(store, staged=False) == ["one"]


def test_the_same_again_is_the_version_that_waits_already(store, locked):
    publish_locked(locked, "one")
    first = stage_locked(locked, "two")
    assert stage_locked(locked, "two") == first
    assert len(store.versions(NAME)) == 2
    assert isinstance(publish_locked(locked, "two"), PublishedVersion)
    assert store.current(NAME).id == first.version.id


def test_a_waiting_version_records_a_new_source_of_the_same_content(store, locked):
    publish_locked(locked, "one")
    first = stage_locked(locked, "two").version
    moved = stage_locked(locked, "two", "/new").version
    assert (moved.id, moved.manifest.source.argument) == (first.id, "/new")
    assert moved.staged
    assert isinstance(publish_locked(locked, "two", "/newer"), PublishedVersion)
    assert store.current(NAME).manifest.source.argument == "/newer"


def test_a_waiting_version_that_was_damaged_is_built_again(locked):
    publish_locked(locked, "one")
    first = stage_locked(locked, "two").version
    with open(first.file("vmlinuz"), "r+b") as file:
        file.write(b"K")
    assert stage_locked(locked, "two").version.id != first.id


def test_what_is_current_already_does_not_wait(locked):
    current = publish_locked(locked, "one").version
    assert stage_locked(locked, "one") == Unchanged(current)


def test_one_that_replaces_a_damaged_current_version_leaves_no_way_back_to_that(store, locked):
    damaged = publish_locked(locked, "one").version
    with open(damaged.image, "r+b") as file:
        file.write(b"H")
    staged = stage_locked(locked, "one")
    locked.publish_staged(staged)
    assert read_served_state(store) == ServedState(("one", "one"), "one", None, "one")


def test_no_backup_is_made_if_none_is_wanted(store, locked):
    publish_locked(locked, "one")
    locked.publish_staged(stage_locked(locked, "two"), backup=False, retention=Retention(1, 0))
    assert read_served_state(store) == ServedState(("two", "two"), "two", None, "two")
    assert len(store.versions(NAME)) == 1


def test_a_damaged_one_cannot_be_chosen(locked):
    publish_locked(locked, "one")
    version = stage_locked(locked, "two").version
    os.truncate(version.image, len(image("two")) - 1)
    with pytest.raises(LtspError, match="is damaged"):
        locked.use(version.id)


def test_going_back_never_leads_to_one_that_waits(store, locked):
    publish_locked(locked, "one")
    publish_locked(locked, "two")
    stage_locked(locked, "three")
    locked.revert()
    assert read_served_state(store).menu == ("one", "one")
    locked.revert()
    assert read_served_state(store).menu == ("two", "two")


def test_a_kernel_waits_with_the_image_of_the_current_version(store, locked):
    current = publish_locked(locked, "one").version
    staged = locked.stage_kernel(contents("two"))
    assert read_served_state(store) == ServedState(("one", "one"), "one", None, "one")
    assert staged.version.is_image_of(current)
    assert locked.stage_kernel(contents("two")) == staged
    assert locked.stage_kernel(contents("one")) == Unchanged(current)
    locked.publish_staged(staged)
    assert read_served_state(store).menu == ("one", "two")


def test_a_kernel_that_waits_with_another_image_is_not_a_twin(locked):
    first = publish_locked(locked, "one").version
    publish_locked(locked, "two")
    staged = locked.stage_kernel(contents("three")).version
    again = locked.stage_kernel(contents("three"), of=first).version
    assert again.id != staged.id
    assert again.is_image_of(first)
