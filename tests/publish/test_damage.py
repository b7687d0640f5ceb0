"""A version whose files were damaged after it was published: reported, replaced, and not available for a revert."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import LtspError
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from publish.labelled_images import NAME, ServedState, contents, image, kernel, publish, read_served_state


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


def current(store):
    return store.current(NAME)


def gone(path):
    os.unlink(path)


def shorter(path):
    os.truncate(path, 100)


def changed(path):
    with open(path, "r+b") as file:
        file.write(b"not what it was")


@pytest.mark.parametrize("harm", [gone, shorter, changed])
@pytest.mark.parametrize("which", ["image", "vmlinuz", "initrd.img"])
def test_the_same_build_replaces_a_damaged_version(store, harm, which):
    publish(store, "zero")
    publish(store, "one")
    version = current(store)
    harm(version.image if which == "image" else version.file(which))
    outcome = publish(store, "one")
    assert isinstance(outcome, PublishedVersion)
    # NAME.img still is the image that the version lost.
    old = "one" if (which, harm) == ("image", gone) else "zero"
    assert read_served_state(store) == ServedState(("one", "one"), "one", old, "one")
    assert isinstance(publish(store, "one"), Unchanged)


@pytest.mark.parametrize("harm", [gone, shorter, changed])
def test_another_build_reuses_no_damaged_file(store, harm):
    publish(store, "one")
    harm(current(store).file("vmlinuz"))
    with store.locked(NAME) as locked, locked.stage_image() as stage:
        stage.image.write(image("two"))
        stage.publish(contents("one"))
    with open(current(store).file("vmlinuz"), "rb") as file:
        assert file.read() == kernel("one")


@pytest.mark.parametrize("harm", [gone, shorter, changed])
def test_publishing_the_kernel_restores_only_the_kernel(store, harm):
    publish(store, "one")
    harm(current(store).file("vmlinuz"))
    with store.locked(NAME) as locked:
        assert isinstance(locked.publish_kernel(contents("one")), PublishedVersion)
    assert read_served_state(store).menu == ("one", "one")


@pytest.mark.parametrize("harm", [gone, shorter])
def test_a_damaged_version_cannot_be_used(store, harm):
    publish(store, "one")
    before = current(store)
    publish(store, "two")
    harm(before.file("vmlinuz"))
    with (
        store.locked(NAME) as locked,
        pytest.raises(LtspError, match=r"is damaged: .*vmlinuz (is missing|has 100 bytes)"),
    ):
        locked.revert()
    assert read_served_state(store).menu == ("two", "two")
