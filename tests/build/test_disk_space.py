"""The disk space of a build: estimated before it, and watched during it."""

from __future__ import annotations

import pytest

from ltsp.build import disk_space
from ltsp.build.disk_space import SpaceEstimate
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish.store import Store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path):
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


@pytest.fixture
def free(monkeypatch):
    """Sets how much is free; the disk has a gigabyte."""
    monkeypatch.setattr(files, "file_system_size", lambda _directory: 1 << 30)

    def set_free(count, *, same_disk=True):
        monkeypatch.setattr(files, "free_bytes", lambda _directory: count)
        monkeypatch.setattr(files, "are_on_same_file_system", lambda *_directories: same_disk)

    return set_free


def test_an_image_that_may_not_fit_causes_a_warning(store, free):
    needed = SpaceEstimate(image=138 * MIB, minimum=100 * MIB, boot=20 * MIB)
    free(170 * MIB)
    assert list(disk_space.find_warnings(needed, store)) == []
    free(150 * MIB)
    (warning,) = disk_space.find_warnings(needed, store)
    assert "about 138 MiB needed, 150 MiB free" in warning
    free(119 * MIB)
    assert list(disk_space.find_warnings(needed, store)) == [], "it is refused"
    assert len(list(disk_space.find_shortages(needed, store))) == 1
    free(150 * MIB, same_disk=False)
    assert list(disk_space.find_shortages(needed, store)) == []
    assert list(disk_space.find_warnings(needed, store)) == []


def test_a_build_ends_before_the_disk_is_full(store, free):
    passed = []
    needed = SpaceEstimate(image=138 * MIB, minimum=100 * MIB, boot=20 * MIB)
    step = disk_space.watch_free_space(passed.append, store.paths("lab"), needed, store)
    free(29 * MIB)
    step(MIB)
    free(27 * MIB)
    with pytest.raises(LtspError, match=r"image of lab: not enough space in .*: 27 MiB left; nothing was") as error:
        step(MIB)
    assert error.value.hint == "free some space there", "there is no version that could be removed"
    assert passed == [MIB, MIB]


def test_a_full_disk_replaces_the_error_of_another_program(store, free):
    needed = SpaceEstimate(image=138 * MIB, minimum=100 * MIB, boot=20 * MIB)
    failed = LtspError("mksquashfs failed with exit status 1")
    free(1 << 30)
    with (
        pytest.raises(LtspError, match=r"^mksquashfs failed"),
        disk_space.detect_full_disk(store.paths("lab"), needed, store),
    ):
        raise failed
    free(0)
    with (
        pytest.raises(LtspError, match="not enough space in"),
        disk_space.detect_full_disk(store.paths("lab"), needed, store),
    ):
        raise failed
