"""One builder for an image, and a lock that dies with its holder."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from ltsp.errors import LockHeld
from ltsp.publish.store import Store
from publish.labelled_images import NAME, leftovers, operate, publish, publish_locked, read_served_state
from publish.strace_faults import command, environment


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


def builder(store, operation, argument):
    """A process that is started and not waited for."""
    return subprocess.Popen(
        command([store.base_dir, store.tftp_dir, operation, argument]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


@contextmanager
def holder(store):
    with builder(store, "hold", "0") as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_builder_names_the_first(store):
    with holder(store) as first, pytest.raises(LockHeld) as error, store.locked(NAME):
        pass
    assert error.value.exit_status == 75
    assert f"lab is being changed by {sys.executable}" in error.value.message
    assert error.value.message.endswith(f"(process {first.pid})")


def test_a_second_builder_can_wait(store):
    with holder(store) as first:
        second = builder(store, "hold", "60")
        first.communicate("")
        with second:
            assert second.stdout.readline() == "held\n"
            second.communicate("")


def test_waiting_for_the_lock_times_out(store):
    with holder(store):
        begin = time.monotonic()
        with pytest.raises(LockHeld), store.locked(NAME, wait=0.2):
            pass
        assert 0.2 <= time.monotonic() - begin < 5


def test_other_names_are_free(store):
    with holder(store), store.locked("other"):
        pass


def test_reading_needs_no_lock(store):
    publish(store, "one")
    with holder(store):
        assert store.current(NAME).manifest.kernel.version == "one"


@pytest.mark.parametrize("builders", [8, pytest.param(50, marks=pytest.mark.torture)])
def test_of_many_builders_one_wins_and_the_others_report_it(builders, store, record_property):
    with ExitStack() as stack:
        every = [stack.enter_context(builder(store, "hold", "0")) for _ in range(builders)]
        first_lines = [process.stdout.readline() for process in every]
        assert first_lines.count("held\n") == 1
        winner = every[first_lines.index("held\n")]
        for process in every:
            if process is not winner:
                assert process.wait() == 75
                assert f"process {winner.pid}" in process.stderr.read()
        winner.communicate("")
    record_property("R14", f"{builders} builders at once: 1 winner, {builders - 1} exit 75")


def test_builders_that_wait_publish_one_after_the_other(store):
    labels = ("one", "two", "three")
    with ExitStack() as stack:
        with store.locked(NAME):
            every = [stack.enter_context(builder(store, "wait and publish", label)) for label in labels]
        assert [process.wait() for process in every] == [0, 0, 0]
    assert {each.manifest.kernel.version for each in store.versions(NAME)} == set(labels)


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.torture)])
def test_a_killed_holder_frees_the_lock(kills, store, record_property):
    for _ in range(kills):
        with holder(store) as process:
            process.kill()
            process.wait()
            with store.locked(NAME):
                pass
    record_property("R14", f"{kills} of {kills} freed")


def test_files_of_a_killed_builder_are_removed(store, monkeypatch):
    """Even if the file system requires a name: the next run holds the lock, so nobody else can be writing the file."""
    monkeypatch.setattr("os.O_TMPFILE", 0)
    publish(store, "one")
    with store.locked(NAME) as locked, locked.stage_image() as stage:
        stage.image.write(b"half")
        assert leftovers(store)
        (left,) = leftovers(store)
        with open(left, "rb") as file:
            half = file.read()
    with open(left, "wb") as file:
        file.write(half)
    operate(store, "repair", "-")
    assert leftovers(store) == []
    assert read_served_state(store).menu == ("one", "one")
    with store.locked(NAME) as locked:
        publish_locked(locked, "two")
