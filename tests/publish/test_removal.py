"""Removing an image, on demand or after somebody deleted its NAME.img."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from ltsp.errors import LtspError
from ltsp.publish.gc import RemovalReason, Retention
from ltsp.publish.store import Store
from publish import strace_faults
from publish.labelled_images import NAME, contents, image, leftovers, operate, publish, read_served_state

YOUNG = Retention(2, 3, 100)


@pytest.fixture
def store(tmp_path):
    made = Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))
    for label in ("one", "two", "three"):
        publish(made, label)
    return made


def remove_all(store, **options):
    with store.locked(NAME) as locked:
        return locked.remove_all(**options)


def tidy(store, retention=YOUNG):
    with store.locked(NAME) as locked:
        return locked.remove_deleted_image(retention)


def everything(store):
    return {
        os.path.join(directory, name)
        for top in (store.base_dir, store.tftp_dir)
        for directory, directories, names in os.walk(top)
        for name in (*directories, *names)
    }


class TestRemovingAll:
    def test_nothing_of_it_stays(self, store):
        versions = tuple(each.id for each in store.versions(NAME))
        gone = remove_all(store)
        assert gone.versions == versions
        assert gone.bytes == sum(len(image(label)) for label in ("one", "two", "three"))
        assert {os.path.relpath(path, store.base_dir) for path in everything(store)} <= {
            "images",
            "images/.versions",
            "../tftp/ltsp",
        }
        assert not store.state(NAME).exists
        assert store.names() == []

    def test_others_stay(self, store):
        with store.locked("other") as locked, locked.stage_image() as stage:
            stage.image.write(image("other"))
            stage.publish(contents("other"))
        remove_all(store)
        assert store.names() == ["other"]
        assert os.path.exists(store.paths("other").image)

    def test_pinned_versions_and_those_in_use_are_named_and_nothing_is_removed(self, store):
        first, second, _ = store.versions(NAME)
        with store.locked(NAME) as locked:
            locked.pin(first.id)
        before = everything(store)
        with open(second.image, "rb") as file, subprocess.Popen(["sleep", "600"], stdin=file) as user:
            with pytest.raises(LtspError) as error:
                remove_all(store)
            user.kill()
        assert f"version {first.id} is pinned" in error.value.message
        assert f"version {second.id} is in use by" in error.value.message
        assert "--force" in error.value.hint
        assert everything(store) == before
        remove_all(store, force=True)
        assert not store.state(NAME).exists

    def test_a_file_of_others_is_not_removed_without_force(self, store):
        paths = store.paths(NAME)
        os.unlink(paths.image)
        with open(paths.image, "wb") as file:
            file.write(image("foreign"))
        with pytest.raises(LtspError, match=r"lab\.img was not made by ltsp"):
            remove_all(store)
        assert read_served_state(store).image == "foreign"
        gone = remove_all(store, force=True)
        assert gone.bytes == sum(len(image(label)) for label in ("one", "two", "three", "foreign"))
        assert not store.state(NAME).exists

    def test_a_damaged_version_is_removed_too(self, store):
        first = store.versions(NAME)[0]
        with open(store.paths(NAME).manifest(first.id), "w") as file:
            file.write("{")
        remove_all(store)
        assert not store.state(NAME).exists

    @pytest.mark.root
    def test_a_kill_leaves_a_whole_image_or_none_that_a_menu_leads_to(self, tmp_path, chance):
        store = Store(str(tmp_path / "case/srv"), str(tmp_path / "case/tftp"))
        arguments = [store.base_dir, store.tftp_dir, "remove all", "-"]

        def begin():
            shutil.rmtree(tmp_path / "case", ignore_errors=True)
            (tmp_path / "case").mkdir()
            for label in ("one", "two"):
                publish(store, label)
            return read_served_state(store)

        begin()
        points = strace_faults.calls(arguments, tmp_path / "log")
        assert len(points) > 20
        for call in chance.sample(points, 8):
            before = begin()
            strace_faults.run(arguments, *strace_faults.kill_at(call))
            assert read_served_state(store).menu in {before.menu, None}, call
            if read_served_state(store).menu:
                assert read_served_state(store) == before
            operate(store, "remove all" if store.state(NAME).exists else "repair", "-")
            assert not store.state(NAME).exists
            assert leftovers(store) == []


class TestAnImageThatWasDeletedByHand:
    def test_it_is_noticed(self, store):
        assert not store.state(NAME).is_image_deleted
        os.unlink(store.paths(NAME).image)
        assert store.state(NAME).is_image_deleted

    def test_new_clients_do_not_get_it_and_running_ones_keep_it_for_days(self, store):
        os.unlink(store.paths(NAME).image)
        assert tidy(store) == ()
        assert read_served_state(store).menu is None
        assert read_served_state(store).kernel is None
        assert len(store.versions(NAME)) == 3
        gone = tidy(store, Retention(2, 0))
        assert [each.reason for each in gone] == [RemovalReason.AGE] * 3
        assert not store.state(NAME).exists
        assert not os.path.exists(store.paths(NAME).lock)

    def test_pinned_versions_stay(self, store):
        first = store.versions(NAME)[0]
        with store.locked(NAME) as locked:
            locked.pin(first.id)
        os.unlink(store.paths(NAME).image)
        tidy(store, Retention(2, 0))
        assert [each.id for each in store.versions(NAME)] == [first.id]

    def test_any_version_brings_it_back(self, store):
        os.unlink(store.paths(NAME).image)
        tidy(store)
        operate(store, "use", store.versions(NAME)[1].id)
        assert read_served_state(store).menu == ("two", "two")
        assert read_served_state(store).image == "two"
        assert not store.state(NAME).is_image_deleted

    def test_a_build_brings_it_back(self, store):
        os.unlink(store.paths(NAME).image)
        publish(store, "four")
        assert read_served_state(store).menu == ("four", "four")
        assert read_served_state(store).old == "three"

    def test_a_version_that_waits_for_its_first_boot_does_not_count(self, tmp_path):
        store = Store(str(tmp_path / "a"), str(tmp_path / "b"))
        operate(store, "stage", "one")
        assert not store.state(NAME).is_image_deleted
        assert tidy(store, Retention(2, 0)) == ()
        assert len(store.versions(NAME)) == 1

    def test_the_kernel_of_a_chroot_does_not_count(self, tmp_path):
        store = Store(str(tmp_path / "a"), str(tmp_path / "b"))
        operate(store, "kernel", "one")
        assert not store.state(NAME).is_image_deleted

    def test_nothing_is_done_to_an_image_that_is_there(self, store):
        before = everything(store)
        assert tidy(store, Retention(1, 0)) == ()
        assert everything(store) == before
