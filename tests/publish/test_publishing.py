"""Builds that are published, replaced, undone and collected, seen through the names that clients use."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from ltsp.errors import Changed, LtspError
from ltsp.publish import boot_files, succeed
from ltsp.publish.contents import Contents, Published, Unchanged
from ltsp.publish.manifest import Origin, Source
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign
from ltsp.publish.store import Store
from ltsp.tree.content import Bytes
from publish.labelled import NAME, Seen, contents, image, initrd, kernel, leftovers, publish, publish_held, seen


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


@pytest.fixture
def places(store):
    return store.places(NAME)


@pytest.fixture
def held(store):
    with store.locked(NAME) as held:
        yield held


def all_of(label, old=None):
    return Seen((label, label), label, old, label)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def inode(path):
    return os.stat(path).st_ino


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


class Restless(Bytes):
    """Content that was another one at the end of its reading."""

    @contextmanager
    def open(self):
        yield Unsettled(self.data)


class Unsettled(io.BytesIO):
    def settled(self):
        return False


class TestBuilds:
    def test_what_is_published_is_under_every_name(self, store):
        publish(store, "one")
        assert seen(store) == all_of("one")
        assert leftovers(store) == []

    def test_the_second_build_keeps_the_first_as_old(self, store):
        publish(store, "one")
        published = publish(store, "two")
        assert seen(store) == all_of("two", old="one")
        assert published.previous.version == store.versions(NAME)[0].version

    def test_the_manifest_says_what_was_made(self, store):
        publish(store, "one")
        manifest = store.current(NAME).manifest
        assert manifest.origin is Origin.BUILT
        assert manifest.source == Source("/", "directory")
        assert manifest.image.size == len(image("one"))
        assert manifest.files["initrd.img"].size == len(initrd("one"))
        assert manifest.version.endswith(manifest.image.sha256[:8])

    def test_names_are_hard_links_so_nothing_is_copied(self, store, places):
        current = publish(store, "one").generation
        assert inode(places.image) == inode(current.image)

    def test_a_client_that_runs_keeps_its_image(self, store, places):
        publish(store, "one")
        with open(places.image, "rb") as running:
            publish(store, "two", keep=Retention(1, 0))
            publish(store, "three", backup=False, keep=Retention(1, 0))
            assert running.read() == image("one")

    def test_the_same_again_publishes_nothing(self, store):
        first = publish(store, "one").generation
        again = publish(store, "one")
        assert again == Unchanged(first)
        assert leftovers(store) == []

    def test_the_same_from_another_place_records_that_place_and_publishes_nothing(self, store):
        first = publish(store, "one").generation
        again = publish(store, "one", "/new")
        assert isinstance(again, Unchanged)
        assert again.generation == store.current(NAME)
        assert again.generation.manifest == replace(first.manifest, source=Source("/new", "directory"))
        assert seen(store) == all_of("one")
        assert leftovers(store) == []

    def test_the_same_image_with_another_kernel_is_published(self, held):
        publish_held(held, "one")
        with held.stage() as stage:
            stage.image.write(image("one"))
            assert isinstance(stage.publish(contents("two")), Published)

    def test_going_back_to_what_was_before_by_building_it_is_published(self, store):
        publish(store, "one")
        publish(store, "two")
        assert isinstance(publish(store, "one"), Published)
        assert seen(store) == all_of("one", old="two")

    def test_a_stage_that_is_not_published_leaves_nothing(self, held, store):
        publish_held(held, "one")
        before = sorted(os.listdir(held.places.versions))
        with held.stage() as stage:
            stage.image.write(image("two"))
        assert sorted(os.listdir(held.places.versions)) == before
        assert seen(store) == all_of("one")

    def test_an_image_may_have_no_kernel(self, held, places):
        with held.stage() as stage:
            stage.image.write(image("one"))
            generation = stage.publish(Contents(Source("/", "directory"))).generation
        assert not generation.bootable
        with open(places.pointer) as script:
            assert "type ltsp kernel lab" in script.read()

    def test_a_kernel_that_changes_while_it_is_copied_publishes_nothing(self, held, store):
        publish_held(held, "one")
        with held.stage() as stage:
            stage.image.write(image("two"))
            with pytest.raises(Changed, match="vmlinuz of lab changed while it was read"):
                stage.publish(Contents(Source("/", "directory"), None, {"vmlinuz": Restless(b"kernel")}))
        assert seen(store) == all_of("one")
        assert leftovers(store) == []

    def test_hashing_and_flushing_run_while_the_caller_does_something_else(self, held):
        with held.stage() as stage:
            stage.image.write(image("one"))
            stage.flush_in_background()
            stage.publish(contents("one"))
            assert set(stage.seconds) == {"fsync", "sha256"}


class TestAccess:
    def test_servers_of_other_users_can_read_but_not_list(self, store, places):
        current = publish(store, "one").generation
        assert mode(places.image) == 0o644
        assert mode(current.file("vmlinuz")) == 0o644
        for directory in (places.images, places.versions, places.version(current.version), places.boot):
            assert mode(directory) == 0o711

    def test_the_umask_changes_nothing(self, store, places):
        umask = os.umask(0o077)
        try:
            publish(store, "one")
        finally:
            os.umask(umask)
        assert (mode(places.image), mode(places.images), mode(places.pointer)) == (0o644, 0o711, 0o644)

    def test_mode_and_group_can_be_tightened_also_without_a_new_version(self, store, places):
        publish(store, "one", mode=0o600)
        assert mode(places.image) == 0o600
        assert isinstance(publish(store, "one", mode=0o640, group=os.getgid()), Unchanged)
        assert mode(places.image) == 0o640

    def test_the_image_is_nobodys_while_it_is_written(self, held):
        with held.stage() as stage:
            assert stat.S_IMODE(os.fstat(stage.image.fileno()).st_mode) == 0o600
            assert os.fstat(stage.image.fileno()).st_nlink == 0


class TestWithoutBackup:
    def test_no_old_is_made_and_the_replaced_version_goes(self, store):
        publish(store, "one")
        publish(store, "two", backup=False)
        assert seen(store) == all_of("two")
        assert len(store.versions(NAME)) == 1

    def test_an_old_one_stays_as_it_is(self, store):
        for label in ("one", "two"):
            publish(store, label)
        publish(store, "three", backup=False)
        assert seen(store) == all_of("three", old="one")

    def test_a_pinned_version_stays(self, store):
        first = publish(store, "one").generation
        with store.locked(NAME) as held:
            held.pin(first.version)
        publish(store, "two", backup=False)
        assert len(store.versions(NAME)) == 2


class TestGoingBack:
    def test_twice_is_where_one_was(self, store, held):
        publish_held(held, "one")
        publish_held(held, "two")
        held.revert()
        assert seen(store) == all_of("one", old="two")
        held.revert()
        assert seen(store) == all_of("two", old="one")

    def test_it_takes_less_than_a_second_and_copies_nothing(self, held, places):
        publish_held(held, "one")
        publish_held(held, "two")
        old = inode(places.old)
        begin = time.monotonic()
        held.revert()
        assert time.monotonic() - begin < 1
        assert inode(places.image) == old

    def test_with_one_version_there_is_nothing_to_go_back_to(self, held):
        publish_held(held, "one")
        with pytest.raises(LtspError, match="no version of lab to go back to"):
            held.revert()

    def test_it_works_where_only_the_old_one_is_left(self, store, held, places):
        publish_held(held, "one")
        publish_held(held, "two")
        os.unlink(places.image)
        held.revert()
        assert seen(store) == all_of("one", old="two")

    def test_it_works_for_what_another_ltsp_left_as_old(self, store, held, places):
        write(places.old, image("one"))
        target = held.before()
        assert not target.bootable
        held.publish_kernel(contents("one"), of=target)
        assert seen(store) == all_of("one")

    def test_any_version_can_be_used(self, store, held):
        for label in ("one", "two", "three"):
            publish_held(held, label)
        first = store.versions(NAME)[0]
        held.use(first.version)
        assert seen(store) == all_of("one", old="three")
        assert held.use(first.version) == Unchanged(store.current(NAME))

    def test_an_old_one_that_was_moved_back_by_hand_is_what_the_next_build_replaces(self, store, places):
        publish(store, "one")
        publish(store, "two")
        os.rename(places.old, places.image)
        publish(store, "three")
        assert seen(store) == all_of("three", old="one")

    def test_a_version_without_a_kernel_does_not_replace_one_that_boots(self, store, held, places):
        write(places.image, image("disk"))
        publish_held(held, "one")
        with pytest.raises(LtspError, match="has no kernel"):
            held.revert()
        assert seen(store) == all_of("one", old="disk")
        held.publish_kernel(contents("disk"), of=held.before())
        assert seen(store) == all_of("disk", old="one")

    def test_an_unknown_version_is_named(self, held):
        publish_held(held, "one")
        with pytest.raises(LtspError, match=r"lab has no version x\\x1b"):
            held.use("x\x1b")


class TestKernel:
    def test_a_new_kernel_shares_the_image(self, store, held, places):
        first = publish_held(held, "one").generation
        second = held.publish_kernel(contents("two")).generation
        assert second.is_image_of(first)
        assert second.manifest.origin is Origin.KERNEL
        assert seen(store).menu == ("one", "two")
        assert inode(places.image) == inode(first.image)

    def test_the_same_kernel_again_publishes_nothing(self, held):
        first = publish_held(held, "one").generation
        assert held.publish_kernel(contents("one")) == Unchanged(first)

    def test_going_back_brings_the_kernel_before(self, store, held):
        publish_held(held, "one")
        held.publish_kernel(contents("two"))
        held.revert()
        assert seen(store).menu == ("one", "one")

    def test_kernels_do_not_push_images_out(self, store, held):
        keep = Retention(2, 0)
        publish_held(held, "one", keep=keep)
        publish_held(held, "two", keep=keep)
        for label in ("three", "four", "five"):
            held.publish_kernel(contents(label), keep=keep)
        assert len({each.image_id for each in store.versions(NAME)}) == 2

    def test_a_chroot_has_a_kernel_and_no_image(self, held, places):
        generation = held.publish_kernel(contents("one")).generation
        assert generation.manifest.image is None
        assert not os.path.lexists(places.image)
        assert held.publish_kernel(contents("one")) == Unchanged(generation)
        moved = held.publish_kernel(contents("one", "/new"))
        assert isinstance(moved, Unchanged)
        assert moved.generation.manifest == replace(generation.manifest, source=Source("/new", "directory"))

    def test_the_kernel_of_another_place_leaves_the_record_of_the_image(self, held):
        first = publish_held(held, "one").generation
        assert held.publish_kernel(contents("one", "/new")) == Unchanged(first)

    def test_a_file_is_shared_with_the_version_before_where_it_is_the_same(self, held):
        first = publish_held(held, "one").generation
        changed = Contents(
            Source("/", "directory"), None, {"vmlinuz": Bytes(b"new"), "initrd.img": Bytes(initrd("one"))}
        )
        second = held.publish_kernel(changed).generation
        assert inode(first.file("initrd.img")) == inode(second.file("initrd.img"))

    @pytest.mark.parametrize("size", [4000, 4001, 4002, 4003])
    def test_another_initrd_can_be_loaded_behind_each_initrd(self, held, size):
        """Under UEFI they are joined as they are, and the kernel wants the next one at a multiple of 4."""
        data = b"x" * size
        files = {name: Bytes(data) for name in ("vmlinuz", "initrd.img", "client.img", "nbd.img")}
        generation = held.publish_kernel(Contents(Source("/", "directory"), None, files)).generation
        for name in ("initrd.img", "client.img", "nbd.img"):
            published = read(generation.file(name))
            assert published == data + bytes(-size % 4)
            facts = generation.manifest.files[name]
            assert (facts.size, facts.sha256) == (len(published), hashlib.sha256(published).hexdigest())
        assert read(generation.file("vmlinuz")) == data
        assert held.publish_kernel(Contents(Source("/", "directory"), None, files)) == Unchanged(generation)

    def test_a_version_from_before_initrds_were_padded_is_replaced(self, held, monkeypatch):
        files = {"vmlinuz": Bytes(b"kernel"), "client.img": Bytes(b"initrd")}
        made = Contents(Source("/", "directory"), None, files)
        with monkeypatch.context() as before:
            before.setattr(boot_files, "padded", lambda initrd: initrd)
            old = held.publish_kernel(made).generation
        assert old.manifest.files["client.img"].size == 6
        new = held.publish_kernel(made)
        assert isinstance(new, Published)
        assert read(new.generation.file("client.img")) == b"initrd\0\0"


class TestForeign:
    """A NAME.img that somebody else put there."""

    def legacy(self, places):
        """What the shell implementation leaves."""
        os.makedirs(places.boot, exist_ok=True)
        write(places.image, image("legacy"))
        write(os.path.join(places.boot, "vmlinuz"), kernel("legacy"))
        write(os.path.join(places.boot, "initrd.img"), initrd("legacy"))

    def test_publishing_over_it_makes_it_a_version_with_its_kernel(self, store, held, places):
        self.legacy(places)
        old = inode(places.image)
        publish_held(held, "one")
        assert seen(store) == all_of("one", old="legacy")
        assert inode(places.old) == old
        held.revert()
        assert seen(store) == all_of("legacy", old="one")

    def test_retention_never_collects_it(self, store, held, places):
        self.legacy(places)
        for label in ("one", "two", "three"):
            publish_held(held, label, keep=Retention(1, 0))
        held.prune(1)
        assert [each.manifest.origin for each in store.versions(NAME)] == [Origin.FOREIGN, Origin.BUILT]

    def test_it_can_be_removed_by_name(self, store, held, places):
        self.legacy(places)
        publish_held(held, "one")
        publish_held(held, "two")
        held.remove(store.versions(NAME)[0].version)
        assert [each.manifest.origin for each in store.versions(NAME)] == [Origin.BUILT] * 2

    def test_one_that_comes_later_is_seen_and_kept(self, store, held, places):
        publish_held(held, "one")
        os.unlink(places.image)
        write(places.image, image("disk"))
        assert isinstance(store.state(NAME).image, Foreign)
        publish_held(held, "two")
        assert seen(store) == all_of("two", old="disk")

    def test_its_kernel_is_published_for_where_it_lies(self, store, held, places):
        publish_held(held, "one")
        os.unlink(places.image)
        write(places.image, image("disk"))
        held.publish_kernel(contents("disk"))
        assert seen(store).menu == ("disk", "disk")
        assert isinstance(store.state(NAME).image, Foreign)
        publish_held(held, "two")
        assert seen(store) == all_of("two", old="disk")
        held.revert()
        assert seen(store) == all_of("disk", old="two")

    def test_two_of_them_with_one_kernel_are_told_apart(self, store, held, places):
        """Neither was read, so there is no hash that could tell."""
        write(places.image, image("disk"))
        held.publish_kernel(contents("disk"))
        publish_held(held, "two")
        held.revert()
        os.unlink(places.old)
        write(places.old, image("other"))
        held.publish_kernel(contents("disk"), of=held.before())
        assert seen(store).image == "other"

    def test_a_symbolic_link_stays_one(self, store, held, places, tmp_path):
        write(tmp_path / "disk", image("disk"))
        os.symlink("../../disk", places.image)
        publish_held(held, "one")
        assert os.readlink(places.old) == "../../disk"
        assert seen(store) == all_of("one", old="disk")
        held.publish_kernel(contents("disk"), of=held.before())
        assert os.readlink(places.image) == "../../disk"
        assert seen(store) == all_of("disk", old="one")

    def test_one_that_cannot_be_linked_becomes_the_old_one(self, store, held, places):
        write(places.image, image("disk"))
        identity = inode(places.image)
        fill_links(places.image)
        publish_held(held, "one")
        assert seen(store) == all_of("one", old="disk")
        assert inode(places.old) == identity

    def test_one_that_cannot_be_linked_is_kept_without_a_backup_too(self, store, held, places, monkeypatch):
        publish_held(held, "one")
        publish_held(held, "two")
        os.unlink(places.image)
        write(places.image, image("disk"))
        monkeypatch.setattr(succeed, "adopt", lambda _state, _foreign: None)
        publish_held(held, "three", backup=False)
        assert seen(store) == all_of("three", old="disk")

    def test_an_old_one_is_kept_as_well(self, store, held, places):
        self.legacy(places)
        write(places.old, image("older"))
        publish_held(held, "one")
        origins = [each.manifest.origin for each in store.versions(NAME)]
        assert origins == [Origin.FOREIGN, Origin.FOREIGN, Origin.BUILT]


def fill_links(path):
    """Link a file until the file system refuses one more, as ext4 does after 65,000; others may take them all."""
    directory = path + ".links"
    os.mkdir(directory)
    with suppress(OSError):
        for number in range(66_000):
            os.link(path, f"{directory}/{number}")


class TestCollection:
    def test_the_current_version_cannot_be_removed(self, held):
        current = publish_held(held, "one").generation
        with pytest.raises(LtspError, match="is the current one"):
            held.remove(current.version)

    def test_a_pinned_version_is_removed_once_it_is_unpinned(self, store, held):
        first = publish_held(held, "one").generation
        publish_held(held, "two")
        held.pin(first.version)
        with pytest.raises(LtspError, match="is pinned"):
            held.remove(first.version)
        held.unpin(first.version)
        held.remove(first.version)
        assert seen(store) == all_of("two")

    def test_pruning_to_one_leaves_the_current_one(self, store, held):
        for label in ("one", "two", "three"):
            publish_held(held, label)
        assert len(held.prune(1)) == 2
        assert seen(store) == all_of("three")
        assert leftovers(store) == []

    def test_a_young_version_stays_and_an_aged_one_goes(self, store, held, places):
        for label in ("one", "two", "three"):
            publish_held(held, label)
        aged = store.versions(NAME)[0]
        week_ago = time.time() - 7 * 86400
        os.utime(places.manifest(aged.version), (week_ago, week_ago))
        publish_held(held, "four")
        assert [each.manifest.kernel.version for each in store.versions(NAME)] == ["two", "three", "four"]

    def test_a_version_stays_while_a_process_reads_it_under_a_name_that_is_gone(self, store, held, places):
        publish_held(held, "one")
        hold = "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, places.image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as reader:
            reader.stdout.readline()
            publish_held(held, "two", backup=False, keep=Retention(1, 0))
            first = store.versions(NAME)[0]
            assert first.manifest.kernel.version == "one"
            with pytest.raises(LtspError, match=rf"in use by .* \(process {reader.pid}\)"):
                held.remove(first.version)
            reader.communicate()
        assert held.prune(1) == (first.version,)

    @pytest.mark.root
    def test_a_version_stays_while_a_loop_device_reads_it(self, store, held, places):
        publish_held(held, "one")
        device = subprocess.run(
            ["losetup", "--find", "--show", "--read-only", places.image], capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            publish_held(held, "two", backup=False, keep=Retention(1, 0))
            first = store.versions(NAME)[0]
            with pytest.raises(LtspError, match=f"in use by loop device {device}"):
                held.remove(first.version)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)

    def test_a_damaged_version_is_shown_and_goes_only_by_hand(self, store, held, places):
        first = publish_held(held, "one").generation
        publish_held(held, "two")
        write(places.manifest(first.version), b"{}")
        assert store.state(NAME).damaged == (first.version,)
        held.prune(1)
        assert store.state(NAME).damaged == (first.version,)
        held.remove(first.version)
        assert store.state(NAME).damaged == ()


class TestPlaces:
    def test_boot_files_may_lie_on_another_file_system(self, tmp_path):
        other = f"/dev/shm/{tmp_path.name}-{os.getpid()}"
        os.mkdir(other)
        try:
            (tmp_path / "srv").mkdir()
            assert os.stat(other).st_dev != os.stat(tmp_path).st_dev
            store = Store(str(tmp_path / "srv"), other)
            publish(store, "one")
            publish(store, "two")
            assert seen(store) == all_of("two", old="one")
        finally:
            subprocess.run(["rm", "-r", other], check=True)

    def test_a_disk_that_is_not_mounted_is_no_place(self, tmp_path):
        (tmp_path / "srv").mkdir()
        store = Store(str(tmp_path / "srv"), str(tmp_path / "missing" / "tftp"))
        with pytest.raises(LtspError, match=r"no directory .*/missing/tftp") as error, store.locked(NAME):
            pass
        assert "--tftp-dir" in error.value.hint

    def test_the_last_directory_is_made(self, tmp_path):
        store = Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))
        publish(store, "one")
        assert seen(store) == all_of("one")

    def test_too_little_space_is_told_before_the_build(self, held):
        with pytest.raises(LtspError, match=r"not enough space for lab .* MiB free") as error, held.stage(2**60):
            pass
        assert error.value.hint == "free some space there"
        for label, hint in (("one", ""), ("two", ", for example by: ltsp versions lab --prune --keep=1")):
            publish_held(held, label)
            with pytest.raises(LtspError, match="not enough space for lab") as error, held.stage(0, 2**60):
                pass
            assert error.value.hint == f"free some space there{hint}"

    def test_a_file_system_without_nameless_files_will_do(self, store, monkeypatch):
        monkeypatch.setattr(os, "O_TMPFILE", 0)  # opening a directory for writing fails as it does there
        publish(store, "one")
        publish(store, "two")
        assert seen(store) == all_of("two", old="one")
        assert leftovers(store) == []

    def test_names_are_those_of_images_kernels_and_versions(self, store, tmp_path):
        publish(store, "one")
        os.makedirs(tmp_path / "tftp" / "ltsp" / "empty")
        write(tmp_path / "srv" / "images" / "disk.img", b"")
        write(tmp_path / "srv" / "images" / "bad name.img", b"")
        write(tmp_path / "srv" / "images" / "gone.img.old", b"")
        assert store.names() == ["disk", "gone", "lab"]
