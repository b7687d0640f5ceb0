"""Whatever happens in whatever order, a name that was once published has something complete to boot."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ltsp.publish.store import Store
from publish.crash_injector import KILLED, start_crash_server
from publish.labelled_images import NAME, image, leftovers, operate, read_served_state

pytestmark = pytest.mark.root

SIZE = 640 << 10
"""Bytes of the disk: some ten images."""
DEATHS = st.none() | st.integers(0, 60)


class Life(RuleBasedStateMachine):
    """Builders that finish, fail or die, hands that meddle, and a disk that fills up."""

    crash_server = None

    def __init__(self):
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="ltsp-life-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", self.directory], check=True)
        self.store = Store(f"{self.directory}/srv", f"{self.directory}/tftp")
        self.labels = 0
        self.published = False

    def teardown(self):
        subprocess.run(["umount", self.directory], check=True)
        shutil.rmtree(self.directory)

    def attempt(self, operation, label, die_at):
        """Do it; say whether it came to its end."""
        status, message = self.crash_server.operate(self.store, operation, label, die_at)
        assert status in {0, 1, KILLED}, message
        assert bool(message) == (status == 1)
        return status == 0

    @initialize()
    def begin(self):
        for place in (self.store.base_dir, self.store.tftp_dir):
            os.mkdir(place)

    @rule(operation=st.sampled_from(["publish", "replace", "rotate", "kernel", "trial"]), die_at=DEATHS)
    def publish(self, operation, die_at):
        if operation == "kernel" and not os.path.exists(self.store.paths(NAME).image):
            return  # the kernel of a chroot, which has no image to be lost
        self.labels += 1
        label = str(self.labels)
        if self.attempt(operation, label, die_at):
            now = read_served_state(self.store)
            if operation == "kernel":
                assert now.kernel == label
            else:
                assert now.menu == (label, label)
                assert now.image == label
                self.published = True

    @rule(operation=st.sampled_from(["revert", "prune", "repair", "stage"]), die_at=DEATHS)
    def change(self, operation, die_at):
        self.attempt(operation, "-", die_at)

    @precondition(lambda self: self.store.versions(NAME))
    @rule(pick=st.integers(0), die_at=DEATHS)
    def use(self, pick, die_at):
        every = self.store.versions(NAME)
        self.attempt("use", every[pick % len(every)].id, die_at)

    @rule()
    def put_a_foreign_image(self):
        paths = self.store.paths(NAME)
        if os.path.isdir(paths.images):
            self.labels += 1
            try:
                with open(f"{self.directory}/foreign", "wb") as file:
                    file.write(image(f"foreign{self.labels}"))
                os.rename(f"{self.directory}/foreign", paths.image)
            except OSError:
                pass  # the disk is full

    @rule(size=st.integers(0, SIZE))
    def fill_the_disk(self, size):
        try:
            with open(f"{self.directory}/filler", "wb", buffering=0) as file:
                file.write(bytes(size))
        except OSError:
            pass  # it is as full as it gets

    @rule()
    def free_the_disk(self):
        if os.path.exists(f"{self.directory}/filler"):
            os.unlink(f"{self.directory}/filler")

    @precondition(lambda self: not os.path.exists(f"{self.directory}/filler"))
    @rule()
    def repair(self):
        operate(self.store, "repair", "-")
        assert leftovers(self.store) == []

    @invariant()
    def something_whole_boots(self):
        if os.path.isdir(self.store.tftp_dir):
            now = read_served_state(self.store)
            if self.published:
                assert now.menu
                assert now.image


@pytest.mark.parametrize("sequences", [40, pytest.param(2000, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_something_bootable_survives_any_sequence(sequences, record_property):
    with start_crash_server() as server:
        living = type("Life", (Life,), {"crash_server": server})
        run_state_machine_as_test(living, settings=settings(max_examples=sequences, stateful_step_count=20))
    record_property("R4", f"{sequences} sequences of up to 20 steps, 0 without a bootable image")
