"""After a power cut, a version reported as published exists and is complete; earlier, the previous one is."""

from __future__ import annotations

import os

import pytest

from ltsp.publish.store import Store
from publish.labelled_images import NAME, leftovers, operate, read_served_state
from publish.logged_disk import logged_disk, mounted

pytestmark = pytest.mark.root

OPERATIONS = (
    *("publish one", "publish two", "kernel three", "revert -"),
    *("rotate four", "move four", "replace five", "prune -"),
)
MKFS = ("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4")


def store_in(mount):
    return Store(str(mount / "srv"), str(mount / "tftp"))


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    return lived_through(tmp_path_factory.mktemp("disk"))


def lived_through(directory):
    """The log of a disk on which versions come and go, and what is seen after each operation, by its mark."""
    states = {}
    with logged_disk(directory, *MKFS) as disk:
        store = store_in(disk.mount)
        for part in (store.base_dir, store.tftp_dir):
            (disk.mount / part).mkdir()
        for operation in OPERATIONS:
            operate(store, *operation.split())
            disk.mark(operation)
            states[operation] = read_served_state(store)
    return disk.log(), states


def check_cut(directory, disk, before, after, label):
    """The file system holds what was published last, or what was about to be."""
    with mounted(directory, disk) as mount:
        store = store_in(mount)
        if before is None and not (mount / "srv").exists():
            return
        now = read_served_state(store)
        allowed = [each for each in (before, after) if each]
        assert now.menu in {each.menu for each in allowed} | ({None} if before is None else set()), label
        assert now.image in {each.image for each in allowed} | ({None} if before is None else set()), label
        if (mount / "tftp").exists():
            operate(store, "repair", "-")
            assert leftovers(store) == [], label
            state = store.state(NAME)
            assert state.current is None or state.current.is_image_of(state.image), label
            assert not state.damaged, label


@pytest.mark.parametrize("cuts", [25, pytest.param(300, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])])
def test_a_power_cut_neither_tears_nor_loses_a_published_version(cuts, history, chance, tmp_path, record_property):
    log, states = history
    names = ["", *OPERATIONS, ""]
    for _ in range(cuts):
        at = chance.randrange(len(log.events) + 1)
        done = [name for position, name in log.marks() if position < at]
        assert done == list(OPERATIONS[: len(done)])
        before, after = states.get(names[len(done)]), states.get(names[len(done) + 1])
        label = f"cut before event {at} of {len(log.events)}, after {done[-1:]}"
        check_cut(tmp_path, log.after_cut(at, chance), before, after, label)
    record_property("R2", f"{cuts} cuts on ext4, 0 torn, 0 taken back")


def test_a_cut_right_after_published_keeps_it_even_if_nothing_else_was_written(history, chance, tmp_path):
    log, states = history
    for position, name in log.marks():
        check_cut(tmp_path, log.after_cut(position + 1, chance), states[name], None, name)


def test_without_flushes_it_would_be_noticed(chance, tmp_path, monkeypatch):
    """A control: the same cuts detect publishing without flushes."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    log, states = lived_through(tmp_path)
    position, name = log.marks()[0]
    with pytest.raises((AssertionError, FileNotFoundError)):
        check_cut(tmp_path, log.after_cut(position + 1, chance), states[name], None, name)
