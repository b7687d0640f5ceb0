"""Versions that are complete and wait until somebody finds them good enough for clients."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import LtspError
from ltsp.publish.contents import Published, Staged, Unchanged
from ltsp.publish.retention import Retention
from ltsp.publish.store import Store
from publish.labelled import NAME, Seen, contents, image, leftovers, publish, publish_held, seen, stage_held


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


@pytest.fixture
def held(store):
    with store.locked(NAME) as held:
        yield held


def labels(store, *, staged):
    return [each.manifest.kernel.version for each in store.versions(NAME) if each.staged == staged]


def test_clients_boot_what_they_did_before(store, held):
    publish_held(held, "one")
    before = seen(store)
    staged = stage_held(held, "two")
    assert isinstance(staged, Staged)
    assert staged.generation.staged
    assert staged.generation.harm == ""
    assert seen(store) == before
    assert leftovers(store) == []
    assert held.state().waiting == staged.generation


def test_it_survives_the_next_run_and_what_that_collects(store):
    publish(store, "one")
    with store.locked(NAME) as held:
        staged = stage_held(held, "two").generation
    with store.locked(NAME) as held:
        assert held.prune(1) == ()
        assert held.state().waiting == staged
        held.publish_kernel(contents("older"))
    # What was made later is current now, so that nobody waits for this one any more.
    assert store.state(NAME).waiting is None
    assert labels(store, staged=True) == []


def test_it_becomes_current_like_any_other_version(store, held):
    publish_held(held, "one")
    outcome = held.publish_staged(stage_held(held, "two"))
    assert isinstance(outcome, Published)
    assert seen(store) == Seen(("two", "two"), "two", "one", "two")
    assert not store.current(NAME).staged
    assert held.state().waiting is None


def test_a_person_can_choose_it_by_hand(store, held):
    publish_held(held, "one")
    held.use(stage_held(held, "two").generation.version)
    assert seen(store).menu == ("two", "two")
    assert labels(store, staged=True) == []


def test_a_first_version_can_wait_too(store, held):
    staged = stage_held(held, "one")
    assert seen(store) == Seen(None, None, None, None)
    assert store.state(NAME).exists
    held.publish_staged(staged)
    assert seen(store).menu == ("one", "one")


def test_one_that_waited_makes_room_for_the_next(store, held):
    publish_held(held, "one")
    stage_held(held, "two")
    held.pin(stage_held(held, "three").generation.version)
    stage_held(held, "four")
    assert labels(store, staged=True) == ["three", "four"]
    assert labels(store, staged=False) == ["one"]


def test_the_same_again_is_the_version_that_waits_already(store, held):
    publish_held(held, "one")
    first = stage_held(held, "two")
    assert stage_held(held, "two") == first
    assert len(store.versions(NAME)) == 2
    assert isinstance(publish_held(held, "two"), Published)
    assert store.current(NAME).version == first.generation.version


def test_one_that_waits_records_where_the_same_comes_from_now(store, held):
    publish_held(held, "one")
    first = stage_held(held, "two").generation
    moved = stage_held(held, "two", "/new").generation
    assert (moved.version, moved.manifest.source.argument) == (first.version, "/new")
    assert moved.staged
    assert isinstance(publish_held(held, "two", "/newer"), Published)
    assert store.current(NAME).manifest.source.argument == "/newer"


def test_one_that_was_damaged_meanwhile_is_made_anew(held):
    publish_held(held, "one")
    first = stage_held(held, "two").generation
    with open(first.file("vmlinuz"), "r+b") as file:
        file.write(b"K")
    assert stage_held(held, "two").generation.version != first.version


def test_what_is_current_already_does_not_wait(held):
    current = publish_held(held, "one").generation
    assert stage_held(held, "one") == Unchanged(current)


def test_one_that_replaces_a_damaged_current_version_leaves_no_way_back_to_that(store, held):
    damaged = publish_held(held, "one").generation
    with open(damaged.image, "r+b") as file:
        file.write(b"H")
    staged = stage_held(held, "one")
    held.publish_staged(staged)
    assert seen(store) == Seen(("one", "one"), "one", None, "one")


def test_no_backup_is_made_where_none_is_wanted(store, held):
    publish_held(held, "one")
    held.publish_staged(stage_held(held, "two"), backup=False, keep=Retention(1, 0))
    assert seen(store) == Seen(("two", "two"), "two", None, "two")
    assert len(store.versions(NAME)) == 1


def test_a_damaged_one_cannot_be_chosen(held):
    publish_held(held, "one")
    version = stage_held(held, "two").generation
    os.truncate(version.image, len(image("two")) - 1)
    with pytest.raises(LtspError, match="is damaged"):
        held.use(version.version)


def test_going_back_never_leads_to_one_that_waits(store, held):
    publish_held(held, "one")
    publish_held(held, "two")
    stage_held(held, "three")
    held.revert()
    assert seen(store).menu == ("one", "one")
    held.revert()
    assert seen(store).menu == ("two", "two")


def test_a_kernel_waits_with_the_image_of_the_current_version(store, held):
    current = publish_held(held, "one").generation
    staged = held.publish_kernel_later(contents("two"))
    assert seen(store) == Seen(("one", "one"), "one", None, "one")
    assert staged.generation.is_image_of(current)
    assert held.publish_kernel_later(contents("two")) == staged
    assert held.publish_kernel_later(contents("one")) == Unchanged(current)
    held.publish_staged(staged)
    assert seen(store).menu == ("one", "two")


def test_a_kernel_that_waits_with_another_image_is_no_twin(held):
    first = publish_held(held, "one").generation
    publish_held(held, "two")
    staged = held.publish_kernel_later(contents("three")).generation
    again = held.publish_kernel_later(contents("three"), of=first).generation
    assert again.version != staged.version
    assert again.is_image_of(first)
