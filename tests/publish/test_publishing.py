"""A build that is published, published again, and undone."""

from __future__ import annotations

import os

import pytest

from ltsp.publish.contents import Contents, Published, Unchanged
from ltsp.publish.manifest import Kernel, Source
from ltsp.publish.store import Store
from ltsp.tree.content import Bytes

NAME = "lab"


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


def contents(kernel: bytes = b"kernel", initrd: bytes | None = b"initrd") -> Contents:
    files = {"vmlinuz": Bytes(kernel)} | ({"initrd.img": Bytes(initrd)} if initrd is not None else {})
    return Contents(Source("/", "directory"), Kernel("boot/vmlinuz-1", "1"), files, codec="gzip")


def publish(store: Store, image: bytes, kernel: bytes = b"kernel", **options) -> Published | Unchanged:
    with store.locked(NAME) as held, held.stage() as stage:
        stage.image.write(image)
        return stage.publish(contents(kernel), **options)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def served(store: Store) -> tuple[bytes, bytes, bytes | None]:
    """Image, kernel and NAME.img.old as older menus find them."""
    places = store.places(NAME)
    old = read(places.old) if os.path.exists(places.old) else None
    return read(places.image), read(os.path.join(places.boot, "vmlinuz")), old


def test_what_is_published_is_under_every_name(store):
    published = publish(store, b"one", b"k1")
    assert isinstance(published, Published)
    assert served(store) == (b"one", b"k1", None)
    current = store.current(NAME)
    assert current == published.generation
    assert read(current.image) == b"one"
    script = read(store.places(NAME).pointer).decode()
    assert f"kernel {current.version}/vmlinuz initrd=initrd.img" in script
    assert f"ltsp.image=images/.versions/lab/{current.version}/image.img" in script


def test_the_second_build_keeps_the_first_as_old(store):
    publish(store, b"one", b"k1")
    publish(store, b"two", b"k2")
    assert served(store) == (b"two", b"k2", b"one")


def test_the_same_again_publishes_nothing(store):
    first = publish(store, b"one")
    again = publish(store, b"one")
    assert isinstance(again, Unchanged)
    assert again.generation == first.generation
    assert len(store.versions(NAME)) == 1


def test_going_back_twice_is_where_one_was(store):
    publish(store, b"one", b"k1")
    publish(store, b"two", b"k2")
    with store.locked(NAME) as held:
        held.revert()
        assert served(store) == (b"one", b"k1", b"two")
        held.revert()
        assert served(store) == (b"two", b"k2", b"one")
