"""A run that publishes nothing under a new name leaves no trace of it."""

from __future__ import annotations

import math
import os
import subprocess
import threading

import pytest

from ltsp.errors import LockHeld, LtspError
from ltsp.publish.manifest import SourceFacts
from ltsp.publish.stage import VersionContents
from ltsp.publish.store import Store
from publish import strace_faults
from publish.labelled_images import NAME, image, publish, read_served_state
from publish.test_publishing import Restless


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "srv"), str(tmp_path / "tftp"))


def refuse(store, name=NAME):
    contents = VersionContents(SourceFacts("/", "directory"), files={"vmlinuz": Restless(b"kernel")})
    with store.locked(name) as locked, locked.stage_image() as stage:
        stage.image.write(image("one"))
        with pytest.raises(LtspError, match="changed while"):
            stage.publish(contents)


def test_a_refused_first_build_leaves_not_even_the_directories_that_it_made(store, tmp_path):
    refuse(store)
    assert os.listdir(tmp_path) == []


def test_existing_directories_stay(store, tmp_path):
    (tmp_path / "srv/images").mkdir(parents=True)
    (tmp_path / "tftp").mkdir()
    refuse(store)
    assert sorted(os.listdir(tmp_path)) == ["srv", "tftp"]
    assert os.listdir(tmp_path / "srv") == ["images"]
    assert os.listdir(tmp_path / "srv/images") == []
    assert os.listdir(tmp_path / "tftp") == []


def test_other_images_keep_their_files(store):
    publish(store, "one")
    refuse(store, "other")
    assert read_served_state(store).menu == ("one", "one")
    assert not os.path.exists(store.paths("other").lock)
    assert not os.path.exists(store.paths("other").boot)
    assert os.path.exists(store.paths(NAME).lock)


def test_a_lock_that_was_removed_is_not_held_by_two(store):
    """A process waiting for a lock that its holder removes then waits for the new lock file."""
    entered, leave = threading.Event(), threading.Event()

    def wait_and_hold():
        with store.locked(NAME, wait=math.inf):
            entered.set()
            leave.wait()

    with store.locked(NAME):
        waiting = threading.Thread(target=wait_and_hold)
        waiting.start()
        assert not entered.wait(0.1)
    assert entered.wait(60)
    with pytest.raises(LockHeld), store.locked(NAME):
        pass
    leave.set()
    waiting.join()


def test_a_run_that_leaves_nothing_takes_nothing_from_one_that_publishes(store):
    """Both find the directories missing, and one removes those it created while the other continues."""
    for _ in range(5):
        arguments = [store.base_dir, store.tftp_dir, "publish", "one"]
        with subprocess.Popen(strace_faults.command(arguments), env=strace_faults.environment()) as publisher:
            while publisher.poll() is None:
                with store.locked("other"):
                    pass
            assert publisher.returncode == 0
        assert read_served_state(store).menu == ("one", "one")
        subprocess.run(["rm", "-r", store.base_dir, store.tftp_dir], check=True)
