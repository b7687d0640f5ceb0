"""A builder that is killed, or to which the disk says no, at any of its calls.

Clients have a complete old or a complete new version, read through the names that they use before anything repairs; the
next run puts the place in order; and an error is never silent.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from ltsp.publish.store import Store
from publish import strace_faults
from publish.labelled_images import NAME, leftovers, operate, publish, read_served_state

OPERATIONS = ("publish", "replace", "rotate", "revert", "kernel", "prune", "stage", "trial", "first", "move")
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
TORTURE = pytest.mark.torture

pytestmark = pytest.mark.root


class Case:
    """One operation on its own store: two versions after a third one, or none for the first."""

    def __init__(self, directory: Path, operation: str) -> None:
        for part in ("srv", "tftp"):
            (directory / part).mkdir(parents=True)
        self.directory = directory
        self.operation = operation
        self.store = Store(str(directory / "srv"), str(directory / "tftp"))
        if operation != "first":
            for label in ("zero", "one", "two"):
                publish(self.store, label)
        verb = "publish" if operation == "first" else operation
        label = "two" if operation == "move" else "three"  # what is published already
        self.arguments = [self.store.base_dir, self.store.tftp_dir, verb, label]

    def remove(self) -> None:
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The state before and after each operation if nothing goes wrong."""
    found = {}
    for operation in OPERATIONS:
        case = Case(tmp_path_factory.mktemp("outcome") / operation, operation)
        before = read_served_state(case.store)
        operate(case.store, *case.arguments[2:])
        found[operation] = before, read_served_state(case.store)
    return found


def points(directory: Path, names: tuple[str, ...]) -> list[tuple[str, strace_faults.Call]]:
    found = []
    for operation in OPERATIONS:
        case = Case(directory / operation, operation)
        found += [
            (operation, call) for call in strace_faults.calls(case.arguments, directory / f"{operation}.log", names)
        ]
    return found


def some(chance, points, number):
    """Each point as often as any other; all of them if there are no more."""
    whole, rest = divmod(number, len(points))
    return points * whole + chance.sample(points, rest)


def assert_whole(store, before, after):
    """Each way to boot is complete, and one that was there before or is there afterwards."""
    now = read_served_state(store)
    assert now.menu in {before.menu, after.menu}
    assert now.image in {before.image, after.image}
    assert now.kernel in {before.kernel, after.kernel}
    assert now.old in {before.old, after.old, before.image}


def assert_no_temporary_data(store):
    """Not even before the next run is there an image or kernel under a temporary name, but for another name of one."""
    for path in leftovers(store):
        if path.endswith(".new") and not os.path.islink(path):
            assert os.stat(path).st_nlink > 1 or os.path.basename(path) in {".boot.ipxe.new", ".manifest.json.new"}


def assert_repaired(store, before, after):
    operate(store, "repair", "")
    now = read_served_state(store)
    assert (now.menu, now.image, now.kernel) in {(each.menu, each.image, each.kernel) for each in (before, after)}
    assert now.old in {before.old, after.old}
    assert leftovers(store) == []
    state = store.state(NAME)
    assert not state.damaged
    assert state.current is None or state.current.is_image_of(state.image)
    publish(store, "four")
    assert read_served_state(store).menu == ("four", "four")


def assert_made_good(store, error, call, after):
    """The call was made again, or the program can do without it; what it said is true."""
    assert error == "EINTR" or call.name == "openat"
    assert read_served_state(store) == after
    assert leftovers(store) == []


def assert_said_what_holds(case, done, before, after):
    """Status 1 says that clients boot what they did, 3 that they boot what is new."""
    assert done.returncode in {1, 3}
    assert done.stderr.startswith("ltsp: cannot ")
    if before.menu != after.menu:
        assert read_served_state(case.store).menu == (before if done.returncode == 1 else after).menu
    assert ("new clients already boot version" in done.stderr) == (done.returncode == 3)


@contextmanager
def during(what):
    """Add the operation to a failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("number", [18, pytest.param(1000, marks=[TORTURE, pytest.mark.timeout(7200)])])
def test_a_kill_leaves_the_old_or_the_new_version_and_the_next_run_repairs(
    number, tmp_path, chance, outcomes, record_property
):
    every = points(tmp_path / "list", strace_faults.CHANGING)
    killed = 0
    for operation, call in some(chance, every, number):
        case = Case(tmp_path / "case", operation)
        with during(f"{operation} killed at {call}"):
            killed += strace_faults.run(case.arguments, *strace_faults.kill_at(call)).returncode != 0
            assert_no_temporary_data(case.store)
            assert_whole(case.store, *outcomes[operation])
            assert_repaired(case.store, *outcomes[operation])
        case.remove()
    assert killed > 0.95 * number
    record_property("R15", f"{killed} kills while publishing, nothing left after the next run")
    record_property("R1", f"{killed} kill points of {len(every)} places, 0 missing, 0 torn, 0 mixed")


@pytest.mark.parametrize("number", [18, pytest.param(2000, marks=[TORTURE, pytest.mark.timeout(7200)])])
def test_a_disk_error_is_reported_and_leaves_the_old_or_the_new_version(
    number, tmp_path, chance, outcomes, record_property
):
    every = points(tmp_path / "list", (*strace_faults.CHANGING, *strace_faults.READING))
    told = 0
    for operation, call in some(chance, every, number):
        error = chance.choice(ERRORS)
        case = Case(tmp_path / "case", operation)
        with during(f"{operation} meets {error} at {call}"):
            done = strace_faults.run(case.arguments, *strace_faults.fail_at(call, error))
            assert_whole(case.store, *outcomes[operation])
            if done.returncode == 0:
                assert_made_good(case.store, error, call, outcomes[operation][1])
            else:
                told += 1
                assert_said_what_holds(case, done, *outcomes[operation])
                assert done.stderr.count("\n") == 1
            assert_repaired(case.store, *outcomes[operation])
        case.remove()
    record_property("R5", f"{number} errors while publishing, {told} told, the others made good, 0 silent")
