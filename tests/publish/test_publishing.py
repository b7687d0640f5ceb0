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

from ltsp.errors import FileChanged, LtspError
from ltsp.publish import assembly, switch
from ltsp.publish.gc import Retention
from ltsp.publish.manifest import Origin, SourceFacts
from ltsp.publish.stage import VersionContents
from ltsp.publish.state import ForeignImage
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.tree.content import Bytes
from publish.labelled_images import (
    NAME,
    ServedState,
    contents,
    image,
    initrd,
    kernel,
    leftovers,
    publish,
    publish_locked,
    read_served_state,
)


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


@pytest.fixture
def paths(store):
    return store.paths(NAME)


@pytest.fixture
def locked(store):
    with store.locked(NAME) as locked:
        yield locked


def all_of(label, old=None):
    return ServedState((label, label), label, old, label)


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
    def is_consistent(self):
        return False


class TestBuilds:
    def test_what_is_published_is_under_every_name(self, store):
        publish(store, "one")
        assert read_served_state(store) == all_of("one")
        assert leftovers(store) == []

    def test_the_second_build_keeps_the_first_as_old(self, store):
        publish(store, "one")
        published = publish(store, "two")
        assert read_served_state(store) == all_of("two", old="one")
        assert published.previous.id == store.versions(NAME)[0].id

    def test_the_manifest_describes_the_version(self, store):
        publish(store, "one")
        manifest = store.current(NAME).manifest
        assert manifest.origin is Origin.BUILT
        assert manifest.source == SourceFacts("/", "directory")
        assert manifest.image.size == len(image("one"))
        assert manifest.files["initrd.img"].size == len(initrd("one"))
        assert manifest.version.endswith(manifest.image.sha256[:8])

    def test_names_are_hard_links_so_nothing_is_copied(self, store, paths):
        current = publish(store, "one").version
        assert inode(paths.image) == inode(current.image)

    def test_a_client_that_runs_keeps_its_image(self, store, paths):
        publish(store, "one")
        with open(paths.image, "rb") as running:
            publish(store, "two", retention=Retention(1, 0))
            publish(store, "three", backup=False, retention=Retention(1, 0))
            assert running.read() == image("one")

    def test_the_same_again_publishes_nothing(self, store):
        first = publish(store, "one").version
        again = publish(store, "one")
        assert again == Unchanged(first)
        assert leftovers(store) == []

    def test_the_same_content_from_another_source_only_updates_the_source(self, store):
        first = publish(store, "one").version
        again = publish(store, "one", "/new")
        assert isinstance(again, Unchanged)
        assert again.version == store.current(NAME)
        assert again.version.manifest == replace(first.manifest, source=SourceFacts("/new", "directory"))
        assert read_served_state(store) == all_of("one")
        assert leftovers(store) == []

    def test_the_same_image_with_another_kernel_is_published(self, locked):
        publish_locked(locked, "one")
        with locked.stage_image() as stage:
            stage.image.write(image("one"))
            assert isinstance(stage.publish(contents("two")), PublishedVersion)

    def test_going_back_to_what_was_before_by_building_it_is_published(self, store):
        publish(store, "one")
        publish(store, "two")
        assert isinstance(publish(store, "one"), PublishedVersion)
        assert read_served_state(store) == all_of("one", old="two")

    def test_a_stage_that_is_not_published_leaves_nothing(self, locked, store):
        publish_locked(locked, "one")
        before = sorted(os.listdir(locked.paths.versions))
        with locked.stage_image() as stage:
            stage.image.write(image("two"))
        assert sorted(os.listdir(locked.paths.versions)) == before
        assert read_served_state(store) == all_of("one")

    def test_an_image_may_have_no_kernel(self, locked, paths):
        with locked.stage_image() as stage:
            stage.image.write(image("one"))
            generation = stage.publish(VersionContents(SourceFacts("/", "directory"))).version
        assert not generation.has_kernel
        with open(paths.pointer) as script:
            assert "run ltsp kernel lab" in script.read()

    def test_a_kernel_that_changes_while_it_is_copied_publishes_nothing(self, locked, store):
        publish_locked(locked, "one")
        with locked.stage_image() as stage:
            stage.image.write(image("two"))
            with pytest.raises(FileChanged, match="vmlinuz of lab changed while it was being read"):
                stage.publish(VersionContents(SourceFacts("/", "directory"), None, {"vmlinuz": Restless(b"kernel")}))
        assert read_served_state(store) == all_of("one")
        assert leftovers(store) == []

    def test_hashing_and_flushing_run_while_the_caller_does_something_else(self, locked):
        with locked.stage_image() as stage:
            stage.image.write(image("one"))
            stage.flush_in_background()
            stage.publish(contents("one"))
            assert set(stage.seconds) == {"fsync", "sha256"}


class TestAccess:
    def test_servers_of_other_users_can_read_but_not_list(self, store, paths):
        current = publish(store, "one").version
        assert mode(paths.image) == 0o644
        assert mode(current.file("vmlinuz")) == 0o644
        for directory in (paths.images, paths.versions, paths.version(current.id), paths.boot):
            assert mode(directory) == 0o711

    def test_the_umask_changes_nothing(self, store, paths):
        umask = os.umask(0o077)
        try:
            publish(store, "one")
        finally:
            os.umask(umask)
        assert (mode(paths.image), mode(paths.images), mode(paths.pointer)) == (0o644, 0o711, 0o644)

    def test_mode_and_group_can_be_tightened_also_without_a_new_version(self, store, paths):
        publish(store, "one", mode=0o600)
        assert mode(paths.image) == 0o600
        assert isinstance(publish(store, "one", mode=0o640, group=os.getgid()), Unchanged)
        assert mode(paths.image) == 0o640

    def test_the_image_is_private_while_it_is_written(self, locked):
        with locked.stage_image() as stage:
            assert stat.S_IMODE(os.fstat(stage.image.fileno()).st_mode) == 0o600
            assert os.fstat(stage.image.fileno()).st_nlink == 0


class TestWithoutBackup:
    def test_no_old_is_made_and_the_replaced_version_goes(self, store):
        publish(store, "one")
        publish(store, "two", backup=False)
        assert read_served_state(store) == all_of("two")
        assert len(store.versions(NAME)) == 1

    def test_an_old_one_stays_as_it_is(self, store):
        for label in ("one", "two"):
            publish(store, label)
        publish(store, "three", backup=False)
        assert read_served_state(store) == all_of("three", old="one")

    def test_a_pinned_version_stays(self, store):
        first = publish(store, "one").version
        with store.locked(NAME) as locked:
            locked.pin(first.id)
        publish(store, "two", backup=False)
        assert len(store.versions(NAME)) == 2


class TestGoingBack:
    def test_reverting_twice_returns_to_the_start(self, store, locked):
        publish_locked(locked, "one")
        publish_locked(locked, "two")
        locked.revert()
        assert read_served_state(store) == all_of("one", old="two")
        locked.revert()
        assert read_served_state(store) == all_of("two", old="one")

    def test_it_takes_less_than_a_second_and_copies_nothing(self, locked, paths):
        publish_locked(locked, "one")
        publish_locked(locked, "two")
        old = inode(paths.old)
        begin = time.monotonic()
        locked.revert()
        assert time.monotonic() - begin < 1
        assert inode(paths.image) == old

    def test_with_one_version_there_is_nothing_to_go_back_to(self, locked):
        publish_locked(locked, "one")
        with pytest.raises(LtspError, match="lab has no previous version to revert to"):
            locked.revert()

    def test_it_works_if_only_the_old_one_is_left(self, store, locked, paths):
        publish_locked(locked, "one")
        publish_locked(locked, "two")
        os.unlink(paths.image)
        locked.revert()
        assert read_served_state(store) == all_of("one", old="two")

    def test_it_works_for_what_another_ltsp_left_as_old(self, store, locked, paths):
        write(paths.old, image("one"))
        target = locked.previous()
        assert not target.has_kernel
        locked.publish_kernel(contents("one"), of=target)
        assert read_served_state(store) == all_of("one")

    def test_any_version_can_be_used(self, store, locked):
        for label in ("one", "two", "three"):
            publish_locked(locked, label)
        first = store.versions(NAME)[0]
        locked.use(first.id)
        assert read_served_state(store) == all_of("one", old="three")
        assert locked.use(first.id) == Unchanged(store.current(NAME))

    def test_an_old_one_that_was_moved_back_by_hand_is_what_the_next_build_replaces(self, store, paths):
        publish(store, "one")
        publish(store, "two")
        os.rename(paths.old, paths.image)
        publish(store, "three")
        assert read_served_state(store) == all_of("three", old="one")

    def test_a_version_without_a_kernel_does_not_replace_one_that_boots(self, store, locked, paths):
        write(paths.image, image("disk"))
        publish_locked(locked, "one")
        with pytest.raises(LtspError, match="has no kernel"):
            locked.revert()
        assert read_served_state(store) == all_of("one", old="disk")
        locked.publish_kernel(contents("disk"), of=locked.previous())
        assert read_served_state(store) == all_of("disk", old="one")

    def test_an_unknown_version_is_named(self, locked):
        publish_locked(locked, "one")
        with pytest.raises(LtspError, match=r"lab has no version x\\x1b"):
            locked.use("x\x1b")


class TestKernel:
    def test_a_new_kernel_shares_the_image(self, store, locked, paths):
        first = publish_locked(locked, "one").version
        second = locked.publish_kernel(contents("two")).version
        assert second.is_image_of(first)
        assert second.manifest.origin is Origin.KERNEL_UPDATE
        assert read_served_state(store).menu == ("one", "two")
        assert inode(paths.image) == inode(first.image)

    def test_the_same_kernel_again_publishes_nothing(self, locked):
        first = publish_locked(locked, "one").version
        assert locked.publish_kernel(contents("one")) == Unchanged(first)

    def test_going_back_brings_the_kernel_before(self, store, locked):
        publish_locked(locked, "one")
        locked.publish_kernel(contents("two"))
        locked.revert()
        assert read_served_state(store).menu == ("one", "one")

    def test_kernels_do_not_push_images_out(self, store, locked):
        retention = Retention(2, 0)
        publish_locked(locked, "one", retention=retention)
        publish_locked(locked, "two", retention=retention)
        for label in ("three", "four", "five"):
            locked.publish_kernel(contents(label), retention=retention)
        assert len({each.image_id for each in store.versions(NAME)}) == 2

    def test_a_chroot_has_a_kernel_and_no_image(self, locked, paths):
        generation = locked.publish_kernel(contents("one")).version
        assert generation.manifest.image is None
        assert not os.path.lexists(paths.image)
        assert locked.publish_kernel(contents("one")) == Unchanged(generation)
        moved = locked.publish_kernel(contents("one", "/new"))
        assert isinstance(moved, Unchanged)
        assert moved.version.manifest == replace(generation.manifest, source=SourceFacts("/new", "directory"))

    def test_the_kernel_of_another_place_leaves_the_record_of_the_image(self, locked):
        first = publish_locked(locked, "one").version
        assert locked.publish_kernel(contents("one", "/new")) == Unchanged(first)

    def test_a_file_is_shared_with_the_version_before_where_it_is_the_same(self, locked):
        first = publish_locked(locked, "one").version
        changed = VersionContents(
            SourceFacts("/", "directory"), None, {"vmlinuz": Bytes(b"new"), "initrd.img": Bytes(initrd("one"))}
        )
        second = locked.publish_kernel(changed).version
        assert inode(first.file("initrd.img")) == inode(second.file("initrd.img"))

    @pytest.mark.parametrize("size", [4000, 4001, 4002, 4003])
    def test_another_initrd_can_be_loaded_behind_each_initrd(self, locked, size):
        """Under UEFI they are joined as they are, and the kernel wants the next one at a multiple of 4."""
        data = b"x" * size
        files = {name: Bytes(data) for name in ("vmlinuz", "initrd.img", "client.img", "nbd.img")}
        generation = locked.publish_kernel(VersionContents(SourceFacts("/", "directory"), None, files)).version
        for name in ("initrd.img", "client.img", "nbd.img"):
            published = read(generation.file(name))
            assert published == data + bytes(-size % 4)
            facts = generation.manifest.files[name]
            assert (facts.size, facts.sha256) == (len(published), hashlib.sha256(published).hexdigest())
        assert read(generation.file("vmlinuz")) == data
        assert locked.publish_kernel(VersionContents(SourceFacts("/", "directory"), None, files)) == Unchanged(
            generation
        )

    def test_a_version_from_before_initrds_were_padded_is_replaced(self, locked, monkeypatch):
        files = {"vmlinuz": Bytes(b"kernel"), "client.img": Bytes(b"initrd")}
        made = VersionContents(SourceFacts("/", "directory"), None, files)
        with monkeypatch.context() as before:
            before.setattr(assembly, "pad_initrd", lambda initrd: initrd)
            old = locked.publish_kernel(made).version
        assert old.manifest.files["client.img"].size == 6
        new = locked.publish_kernel(made)
        assert isinstance(new, PublishedVersion)
        assert read(new.version.file("client.img")) == b"initrd\0\0"


class TestForeign:
    """A NAME.img that somebody else put there."""

    def legacy(self, paths):
        """The files that the shell implementation leaves."""
        os.makedirs(paths.boot, exist_ok=True)
        write(paths.image, image("legacy"))
        write(os.path.join(paths.boot, "vmlinuz"), kernel("legacy"))
        write(os.path.join(paths.boot, "initrd.img"), initrd("legacy"))

    def test_publishing_over_it_makes_it_a_version_with_its_kernel(self, store, locked, paths):
        self.legacy(paths)
        old = inode(paths.image)
        publish_locked(locked, "one")
        assert read_served_state(store) == all_of("one", old="legacy")
        assert inode(paths.old) == old
        locked.revert()
        assert read_served_state(store) == all_of("legacy", old="one")

    def test_retention_never_collects_it(self, store, locked, paths):
        self.legacy(paths)
        for label in ("one", "two", "three"):
            publish_locked(locked, label, retention=Retention(1, 0))
        locked.prune(1)
        assert [each.manifest.origin for each in store.versions(NAME)] == [Origin.FOREIGN, Origin.BUILT]

    def test_it_can_be_removed_by_name(self, store, locked, paths):
        self.legacy(paths)
        publish_locked(locked, "one")
        publish_locked(locked, "two")
        locked.remove(store.versions(NAME)[0].id)
        assert [each.manifest.origin for each in store.versions(NAME)] == [Origin.BUILT] * 2

    def test_one_that_comes_later_is_seen_and_kept(self, store, locked, paths):
        publish_locked(locked, "one")
        os.unlink(paths.image)
        write(paths.image, image("disk"))
        assert isinstance(store.state(NAME).image, ForeignImage)
        publish_locked(locked, "two")
        assert read_served_state(store) == all_of("two", old="disk")

    def test_its_kernel_is_published_for_its_path(self, store, locked, paths):
        publish_locked(locked, "one")
        os.unlink(paths.image)
        write(paths.image, image("disk"))
        locked.publish_kernel(contents("disk"))
        assert read_served_state(store).menu == ("disk", "disk")
        assert isinstance(store.state(NAME).image, ForeignImage)
        publish_locked(locked, "two")
        assert read_served_state(store) == all_of("two", old="disk")
        locked.revert()
        assert read_served_state(store) == all_of("disk", old="two")

    def test_two_of_them_with_one_kernel_are_distinguished(self, store, locked, paths):
        """Neither was read, so there is no hash to compare."""
        write(paths.image, image("disk"))
        locked.publish_kernel(contents("disk"))
        publish_locked(locked, "two")
        locked.revert()
        os.unlink(paths.old)
        write(paths.old, image("other"))
        locked.publish_kernel(contents("disk"), of=locked.previous())
        assert read_served_state(store).image == "other"

    def test_a_symbolic_link_stays_one(self, store, locked, paths, tmp_path):
        write(tmp_path / "disk", image("disk"))
        os.symlink("../../disk", paths.image)
        publish_locked(locked, "one")
        assert os.readlink(paths.old) == "../../disk"
        assert read_served_state(store) == all_of("one", old="disk")
        locked.publish_kernel(contents("disk"), of=locked.previous())
        assert os.readlink(paths.image) == "../../disk"
        assert read_served_state(store) == all_of("disk", old="one")

    def test_one_that_cannot_be_linked_becomes_the_old_one(self, store, locked, paths):
        write(paths.image, image("disk"))
        identity = inode(paths.image)
        fill_links(paths.image)
        publish_locked(locked, "one")
        assert read_served_state(store) == all_of("one", old="disk")
        assert inode(paths.old) == identity

    def test_one_that_cannot_be_linked_is_kept_without_a_backup_too(self, store, locked, paths, monkeypatch):
        publish_locked(locked, "one")
        publish_locked(locked, "two")
        os.unlink(paths.image)
        write(paths.image, image("disk"))
        monkeypatch.setattr(switch, "adopt_foreign_image", lambda _state, _foreign: None)
        publish_locked(locked, "three", backup=False)
        assert read_served_state(store) == all_of("three", old="disk")

    def test_an_old_one_is_kept_as_well(self, store, locked, paths):
        self.legacy(paths)
        write(paths.old, image("older"))
        publish_locked(locked, "one")
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
    def test_the_current_version_cannot_be_removed(self, locked):
        current = publish_locked(locked, "one").version
        with pytest.raises(LtspError, match="is current"):
            locked.remove(current.id)

    def test_a_pinned_version_is_removed_once_it_is_unpinned(self, store, locked):
        first = publish_locked(locked, "one").version
        publish_locked(locked, "two")
        locked.pin(first.id)
        with pytest.raises(LtspError, match="is pinned"):
            locked.remove(first.id)
        locked.unpin(first.id)
        locked.remove(first.id)
        assert read_served_state(store) == all_of("two")

    def test_pruning_to_one_leaves_the_current_one(self, store, locked):
        for label in ("one", "two", "three"):
            publish_locked(locked, label)
        assert len(locked.prune(1)) == 2
        assert read_served_state(store) == all_of("three")
        assert leftovers(store) == []

    def test_a_young_version_stays_and_an_aged_one_goes(self, store, locked, paths):
        for label in ("one", "two", "three"):
            publish_locked(locked, label)
        aged = store.versions(NAME)[0]
        week_ago = time.time() - 7 * 86400
        os.utime(paths.manifest(aged.id), (week_ago, week_ago))
        publish_locked(locked, "four")
        assert [each.manifest.kernel.version for each in store.versions(NAME)] == ["two", "three", "four"]

    def test_a_version_stays_while_a_process_reads_it_under_a_name_that_is_gone(self, store, locked, paths):
        publish_locked(locked, "one")
        hold = "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, paths.image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as reader:
            reader.stdout.readline()
            publish_locked(locked, "two", backup=False, retention=Retention(1, 0))
            first = store.versions(NAME)[0]
            assert first.manifest.kernel.version == "one"
            with pytest.raises(LtspError, match=rf"in use by .* \(process {reader.pid}\)"):
                locked.remove(first.id)
            reader.communicate()
        assert locked.prune(1) == (first.id,)

    @pytest.mark.root
    def test_a_version_stays_while_a_loop_device_reads_it(self, store, locked, paths):
        publish_locked(locked, "one")
        device = subprocess.run(
            ["losetup", "--find", "--show", "--read-only", paths.image], capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            publish_locked(locked, "two", backup=False, retention=Retention(1, 0))
            first = store.versions(NAME)[0]
            with pytest.raises(LtspError, match=f"in use by loop device {device}"):
                locked.remove(first.id)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)

    def test_a_damaged_version_is_shown_and_goes_only_by_hand(self, store, locked, paths):
        first = publish_locked(locked, "one").version
        publish_locked(locked, "two")
        write(paths.manifest(first.id), b"{}")
        assert store.state(NAME).damaged == (first.id,)
        locked.prune(1)
        assert store.state(NAME).damaged == (first.id,)
        locked.remove(first.id)
        assert store.state(NAME).damaged == ()


class TestPlaces:
    def test_boot_files_may_be_on_another_file_system(self, tmp_path):
        other = f"/dev/shm/{tmp_path.name}-{os.getpid()}"
        os.mkdir(other)
        try:
            (tmp_path / "srv").mkdir()
            assert os.stat(other).st_dev != os.stat(tmp_path).st_dev
            store = Store(str(tmp_path / "srv"), other)
            publish(store, "one")
            publish(store, "two")
            assert read_served_state(store) == all_of("two", old="one")
        finally:
            subprocess.run(["rm", "-r", other], check=True)

    def test_a_disk_that_is_not_mounted_is_refused(self, tmp_path):
        (tmp_path / "srv").mkdir()
        store = Store(str(tmp_path / "srv"), str(tmp_path / "missing" / "tftp"))
        with pytest.raises(LtspError, match=r"directory .*/missing/tftp not found") as error, store.locked(NAME):
            pass
        assert "--tftp-dir" in error.value.hint

    def test_the_last_directory_is_made(self, tmp_path):
        store = Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))
        publish(store, "one")
        assert read_served_state(store) == all_of("one")

    def test_too_little_space_is_reported_before_the_build(self, locked):
        with (
            pytest.raises(LtspError, match=r"not enough space for lab .* MiB free") as error,
            locked.stage_image(2**60),
        ):
            pass
        assert error.value.hint == "free some space there"
        for label, hint in (("one", ""), ("two", ", for example with: ltsp versions lab --prune --keep=1")):
            publish_locked(locked, label)
            with pytest.raises(LtspError, match="not enough space for lab") as error, locked.stage_image(0, 2**60):
                pass
            assert error.value.hint == f"free some space there{hint}"

    def test_a_file_system_without_nameless_files_will_do(self, store, monkeypatch):
        monkeypatch.setattr(os, "O_TMPFILE", 0)  # opening a directory for writing fails as it does there
        publish(store, "one")
        publish(store, "two")
        assert read_served_state(store) == all_of("two", old="one")
        assert leftovers(store) == []

    def test_names_are_those_of_images_kernels_and_versions(self, store, tmp_path):
        publish(store, "one")
        os.makedirs(tmp_path / "tftp" / "ltsp" / "empty")
        write(tmp_path / "srv" / "images" / "disk.img", b"")
        write(tmp_path / "srv" / "images" / "bad name.img", b"")
        write(tmp_path / "srv" / "images" / "gone.img.old", b"")
        assert store.names() == ["disk", "gone", "lab"]
