"""A version whose files were harmed after it was published: it is told, replaced, and nothing one can go back to."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import LtspError
from ltsp.publish.contents import Published, Unchanged
from ltsp.publish.store import Store
from publish.labelled import NAME, Seen, contents, image, kernel, publish, seen


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
def test_the_same_build_replaces_what_was_harmed(store, harm, which):
    publish(store, "zero")
    publish(store, "one")
    version = current(store)
    harm(version.image if which == "image" else version.file(which))
    outcome = publish(store, "one")
    assert isinstance(outcome, Published)
    # NAME.img still is the image that the version lost.
    old = "one" if (which, harm) == ("image", gone) else "zero"
    assert seen(store) == Seen(("one", "one"), "one", old, "one")
    assert isinstance(publish(store, "one"), Unchanged)


@pytest.mark.parametrize("harm", [gone, shorter, changed])
def test_another_build_takes_no_harmed_file_over(store, harm):
    publish(store, "one")
    harm(current(store).file("vmlinuz"))
    with store.locked(NAME) as held, held.stage() as stage:
        stage.image.write(image("two"))
        stage.publish(contents("one"))
    with open(current(store).file("vmlinuz"), "rb") as file:
        assert file.read() == kernel("one")


@pytest.mark.parametrize("harm", [gone, shorter, changed])
def test_the_kernel_alone_is_put_back(store, harm):
    publish(store, "one")
    harm(current(store).file("vmlinuz"))
    with store.locked(NAME) as held:
        assert isinstance(held.publish_kernel(contents("one")), Published)
    assert seen(store).menu == ("one", "one")


@pytest.mark.parametrize("harm", [gone, shorter])
def test_nobody_is_switched_to_a_harmed_version(store, harm):
    publish(store, "one")
    before = current(store)
    publish(store, "two")
    harm(before.file("vmlinuz"))
    with store.locked(NAME) as held, pytest.raises(LtspError, match=r"is damaged: .*vmlinuz (is gone|has 100 bytes)"):
        held.revert()
    assert seen(store).menu == ("two", "two")
