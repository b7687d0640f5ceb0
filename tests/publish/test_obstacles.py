"""Names that cannot be replaced: reported before the pointer moves, so that a failure means that nothing changed."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from contextlib import contextmanager
from itertools import count

import pytest

from ltsp.errors import FollowUpFailed, LtspError
from ltsp.publish import switch
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.gc import Retention
from ltsp.publish.store import Store
from publish.labelled_images import NAME, contents, image, leftovers, operate, publish, read_served_state

pytestmark = pytest.mark.root

OPERATIONS = ("publish", "replace", "rotate", "revert", "kernel", "trial")
LINKED = ("image", "old")


@pytest.fixture
def store(tmp_path):
    for part in ("srv", "tftp"):
        (tmp_path / part).mkdir()
    made = Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))
    for label in ("one", "two"):
        publish(made, label)
    return made


@contextmanager
def immutable(path):
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@contextmanager
def bound(path):
    """A mount point, as when another file was bound over it."""
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def replaced_by_directory(path):
    os.rename(path, f"{path}.aside")
    os.mkdir(path)
    try:
        yield
    finally:
        os.rmdir(path)
        os.rename(f"{path}.aside", path)


def snapshot(store):
    """Every name of the store and what it is, except the lock and times."""
    found = {}
    for top in (store.base_dir, store.tftp_dir):
        for directory, directories, names in os.walk(top):
            for name in (*directories, *names):
                path = os.path.join(directory, name)
                found[path] = os.readlink(path) if os.path.islink(path) else os.lstat(path).st_ino
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("obstacle", "remedy"), [(immutable, "chattr -i "), (bound, "umount ")])
@pytest.mark.parametrize("name", LINKED)
def test_a_name_that_cannot_be_replaced_is_refused_before_the_pointer_moves(store, operation, obstacle, remedy, name):
    path = getattr(store.paths(NAME), name)
    with obstacle(path):
        before, names = read_served_state(store), snapshot(store)
        if (operation, name) == ("replace", "old"):
            operate(store, operation, "three")  # without a backup, NAME.img.old stays as it is
            return
        if (operation, name, obstacle) == ("kernel", "image", bound):
            operate(store, operation, "three")  # nor is NAME.img replaced, which another kernel has no part in
            return
        with pytest.raises(LtspError) as refused:
            operate(store, operation, "three")
        error = refused.value
        assert error.exit_status == 1
        assert error.hint.startswith(remedy)
        assert os.path.samefile(error.hint.removeprefix(remedy), path)  # by one of its names
        assert read_served_state(store) == before
        # A version that waits for its boot test is created before anything is switched, and stays.
        assert not names.keys() - snapshot(store).keys()
        assert operation == "trial" or snapshot(store) == names
    operate(store, "publish", "four")
    assert read_served_state(store).menu == ("four", "four")


@pytest.mark.parametrize("name", ["pointer", "current", "image", "vmlinuz", "initrd.img"])
def test_a_directory_in_the_place_of_a_name_is_named(store, name):
    paths = store.paths(NAME)
    path = os.path.join(paths.boot, name) if "." in name or name == "vmlinuz" else getattr(paths, name)
    with replaced_by_directory(path), pytest.raises(LtspError, match="is a directory") as error:
        publish(store, "three")
    assert path in error.value.message
    assert read_served_state(store).menu == ("two", "two")
    publish(store, "three")
    assert read_served_state(store).menu == ("three", "three")
    assert leftovers(store) == []


@pytest.mark.parametrize("place", ["images", "boot"])
def test_a_directory_that_is_immutable_changes_nothing(store, place):
    before = snapshot(store)
    path = getattr(store.paths(NAME), place)
    with immutable(path), pytest.raises(LtspError, match=r"not permitted|immutable"):
        publish(store, "three")
    assert snapshot(store) == before


def test_a_file_of_a_version_that_cannot_be_removed_keeps_the_whole_image(store):
    oldest = store.versions(NAME)[0]
    kernel = os.path.join(store.paths(NAME).boot_version(oldest.id), "vmlinuz")
    before = snapshot(store)
    with immutable(kernel), store.locked(NAME) as locked, pytest.raises(LtspError) as error:
        locked.remove_all(force=False)
    assert error.value.hint == f"chattr -i {kernel}"
    assert snapshot(store) == before


def test_versions_on_another_file_system_than_their_names_are_refused_before_the_pointer_moves(store, tmp_path):
    versions = os.path.join(store.paths(NAME).images, ".versions")
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "disk"], check=True)
    try:
        subprocess.run(["cp", "-a", f"{versions}/.", tmp_path / "disk"], check=True)
        subprocess.run(["mount", "--bind", tmp_path / "disk", versions], check=True)
        try:
            before = read_served_state(store)
            with pytest.raises(LtspError, match="cross-device"):
                publish(store, "three")
            assert read_served_state(store) == before
        finally:
            subprocess.run(["umount", versions], check=True)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


@pytest.mark.parametrize("obstacle", [immutable, bound])
def test_a_foreign_image_that_cannot_be_moved_is_refused_and_stays(store, obstacle):
    paths = store.paths(NAME)
    os.unlink(paths.image)
    with open(paths.image, "wb") as file:
        file.write(image("foreign"))
    with obstacle(paths.image), pytest.raises(LtspError, match="cannot change lab"):
        publish(store, "three")
    assert read_served_state(store).menu == ("two", "two")
    assert read_served_state(store).image == "foreign"


def test_a_foreign_image_is_where_it_was_when_the_pointer_cannot_move(store, monkeypatch):
    """An image that cannot be linked is renamed only after the switch."""
    paths = store.paths(NAME)
    with open(f"{paths.image}.other", "wb") as file:
        file.write(image("foreign"))
    os.rename(f"{paths.image}.other", paths.image)
    monkeypatch.setattr("ltsp.publish.switch.adopt_foreign_image", lambda *_: None)
    with replaced_by_directory(paths.pointer), pytest.raises(LtspError, match="is a directory"):
        publish(store, "three")
    assert read_served_state(store).image == "foreign"
    publish(store, "three")
    assert (read_served_state(store).image, read_served_state(store).old) == ("three", "foreign")


def test_a_foreign_backup_that_cannot_be_linked_gets_a_name_of_its_own(store, monkeypatch):
    paths = store.paths(NAME)
    os.unlink(paths.old)
    with open(paths.old, "wb") as file:
        file.write(image("foreign"))
    monkeypatch.setattr("ltsp.publish.switch.adopt_foreign_image", lambda *_: None)
    publish(store, "three")
    aside = [name for name in os.listdir(paths.images) if name.startswith("lab.img.old-")]
    assert len(aside) == 1
    assert read_served_state(store).old == "two"


def test_an_old_version_that_cannot_be_removed_is_named_and_the_new_one_is_published(store):
    paths = store.paths(NAME)
    oldest = store.versions(NAME)[0]
    with store.locked(NAME) as locked:
        locked.publish_kernel(contents("other"))
    with immutable(oldest.image), store.locked(NAME) as locked, locked.stage_image() as stage:
        stage.image.write(image("three"))
        with pytest.raises(FollowUpFailed, match="new clients already boot version") as error:
            stage.publish(contents("three"), retention=Retention(1, 0))
    assert error.value.exit_status == 3
    assert oldest.image in error.value.message
    assert read_served_state(store).menu == ("three", "three")
    assert oldest.id in {each.id for each in store.versions(NAME)}
    with store.locked(NAME) as locked:
        locked.prune(1)
    assert len(store.versions(NAME)) == 1
    assert paths.name == NAME


def test_a_failure_after_the_pointer_moved_says_that_clients_boot_the_new_version(store, monkeypatch):
    """All checks pass, and then the disk reports an error."""

    def refuse(*_):
        raise OSError(5, "Input/output error", store.paths(NAME).image)

    before = read_served_state(store)
    with monkeypatch.context() as patched:
        patched.setattr(switch._PreparedLinks, "commit", refuse)
        with pytest.raises(FollowUpFailed, match=r"new clients already boot version \S+Z") as error:
            publish(store, "three")
    current = store.current(NAME).id
    assert f"--use={current}" in error.value.hint
    assert read_served_state(store).menu == ("three", "three")
    assert read_served_state(store).image == before.image
    operate(store, "use", current)
    assert (read_served_state(store).image, read_served_state(store).old, read_served_state(store).kernel) == (
        "three",
        "two",
        "three",
    )


@contextmanager
def small_disk(tmp_path, script):
    """A store on a disk of 16 MiB, with two versions."""
    for part in ("srv", "tftp"):
        (tmp_path / "small" / part).mkdir(parents=True)
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    try:
        made = Store(str(tmp_path / "small/srv"), str(tmp_path / "small/tftp"))
        for label in ("one", "two"):
            publish(made, label)
        yield made
    finally:
        subprocess.run(["umount", tmp_path / "small/srv"], check=True)


def fill(directory, *, inodes):
    """Use up the bytes of a disk, or its inodes."""
    with pytest.raises(OSError, match="No space left"):
        write_endlessly(directory, inodes=inodes)


def write_endlessly(directory, *, inodes):
    for number in count():
        with open(os.path.join(directory, f"filler{number}"), "wb", buffering=0) as file:
            while not inodes:
                file.write(bytes(4096))


@pytest.mark.parametrize(
    "script",
    [
        "truncate -s 16m disk; mke2fs -qF -O ^has_journal -m 0 -N 64 disk; mount -o loop disk small/srv",
        "mount -t tmpfs -o size=16m,nr_inodes=64 small small/srv",
    ],
    ids=["ext4", "tmpfs"],
)
@pytest.mark.parametrize("inodes", [False, True], ids=["bytes", "inodes"])
def test_a_disk_that_fills_up_during_a_build_is_named_with_what_ran_out(tmp_path, script, inodes):
    with small_disk(tmp_path, script) as store:
        before = read_served_state(store)
        with store.locked(NAME) as locked, locked.stage_image() as stage:
            stage.image.write(image("three"))
            fill(store.base_dir, inodes=inodes)
            with pytest.raises(LtspError) as error:
                stage.publish(contents("three"))
        what = r"no inodes left in \S+ \(\d+ MiB are free\)" if inodes else r"not enough space in \S+: \d+ KiB left"
        assert re.search(what, error.value.message)
        how = r"remove files there \(df -i \S+ counts inodes\)" if inodes else "free some space there"
        assert re.fullmatch(f"{how}, for example with: ltsp versions lab --prune --keep=1", error.value.hint)
        assert read_served_state(store) == before


def test_an_exceeded_quota_is_not_reported_as_a_full_disk(store):
    with pytest.raises(LtspError) as error, translate_os_errors("publish", store.paths(NAME)):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert error.value.message == f"cannot publish lab: Disk quota exceeded: {store.base_dir}/images"
