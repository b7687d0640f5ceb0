"""A builder that is killed at any of its file-changing calls leaves clients a complete old or a complete new version.

What a client sees is read through the names that clients use, before anything repairs; then the next run is started, and
the place must be as if it had never been otherwise.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ltsp.publish.store import Store
from publish import tracing
from publish.labelled import NAME, leftovers, operate, publish, seen

TORTURE = os.environ.get("LTSP_TORTURE") == "1"
POINTS = 1000 if TORTURE else 36
OPERATIONS = ("publish", "replace", "rotate", "revert", "kernel", "prune", "first")


@pytest.fixture
def seed(request):
    chosen = int(os.environ.get("LTSP_SEED", random.randrange(10**6)))
    request.node.add_report_section("call", "seed", f"LTSP_SEED={chosen}")
    return chosen


def prepared(directory: Path, operation: str) -> Store:
    """A place with two versions and a third one before them; an empty one for the first publishing."""
    for part in ("srv", "tftp"):
        (directory / part).mkdir(parents=True)
    store = Store(str(directory / "srv"), str(directory / "tftp"))
    if operation != "first":
        for label in ("zero", "one", "two"):
            publish(store, label)
    return store


def arguments(store: Store, operation: str) -> list[str]:
    return [store.base_dir, store.tftp_dir, "publish" if operation == "first" else operation, "three"]


def points(directory: Path) -> list[tuple[str, tracing.Call]]:
    """Every file-changing call of every operation."""
    found = []
    for operation in OPERATIONS:
        store = prepared(directory / operation, operation)
        calls = tracing.calls(arguments(store, operation), directory / f"{operation}.log")
        found += [(operation, call) for call in calls]
    return found


def check_reader(store: Store, before, after, label):
    """Each way to boot is whole, of one version, and one that was there before or is there after."""
    now = seen(store)
    assert now.menu in {before.menu, after.menu}, label
    assert now.image in {before.image, after.image}, label
    assert now.kernel in {before.kernel, after.kernel}, label
    assert now.old in {before.old, after.old, before.image}, label
    if now.menu and after.menu:
        image, kernel = now.menu
        assert image == kernel or now.menu == after.menu == ("two", "three"), label


def check_repaired(store: Store, before, after, label):
    operate(store, "repair", "")
    now = seen(store)
    assert now in {before, after} or (now.menu, now.image, now.kernel) == (after.menu, after.image, after.kernel), label
    assert leftovers(store) == [], label
    state = store.state(NAME)
    assert state.damaged == ()
    if state.current:
        assert state.current.is_image_of(state.image), label


@pytest.mark.root
def test_a_kill_leaves_the_old_or_the_new_version_and_the_next_run_repairs(tmp_path, seed):
    every = points(tmp_path / "list")
    generator = random.Random(seed)
    chosen = every * (POINTS // len(every) + 1) if TORTURE else generator.sample(every, POINTS)
    outcome = {}
    for operation in {operation for operation, _ in chosen}:
        store = prepared(tmp_path / f"whole-{operation}", operation)
        before = seen(store)
        operate(store, arguments(store, operation)[2], "three")
        outcome[operation] = before, seen(store)
    killed = 0
    for number, (operation, call) in enumerate(chosen[: POINTS if TORTURE else None]):
        directory = tmp_path / str(number)
        store = prepared(directory, operation)
        before, after = outcome[operation]
        label = f"{operation} killed at {call}"
        done = tracing.run(arguments(store, operation), *tracing.kill_at(call))
        killed += done.returncode != 0
        check_reader(store, before, after, label)
        check_repaired(store, before, after, label)
        publish(store, "four")
        assert seen(store).menu == ("four", "four"), label
        shutil.rmtree(directory)
    assert killed > 0.9 * len(chosen[:POINTS])
