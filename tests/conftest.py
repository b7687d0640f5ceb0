"""What every test shares: one seed that is printed, a real root file system, and the account of the promises."""

from __future__ import annotations

import os
import random
import secrets
import signal
from collections import Counter, defaultdict
from pathlib import Path

import hypothesis
import pytest

from corpus import busyboxes
from corpus.promises import PROMISES, promises_of
from tools.debian_root import make, shared

SEED = int(os.environ.setdefault("LTSP_SEED", str(secrets.randbelow(2**32))))  # set, so that workers get the same

# A shell starts jobs in its background with SIGINT ignored, nohup with SIGHUP, and so would be all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile(
    "gate",
    deadline=None,  # a busy machine is no failure; pytest-timeout ends what hangs
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # likewise
)
hypothesis.settings.load_profile("gate")


def pytest_report_header():
    return f"seed: {SEED}; `make test SEED={SEED}` runs the same cases again"


@pytest.fixture
def chance(request):
    """Random numbers that depend on the seed of the run and the name of the test."""
    return random.Random(f"{SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def debian_root() -> Path:
    """A real root file system with kernel, which no test may change. Made once for the checkout."""
    root = shared()
    make(root)
    return root


@pytest.fixture(scope="session", params=busyboxes.BUSYBOXES)
def busybox(request) -> Path:
    """A static busybox that clients may have: that of this machine, then those of other releases."""
    return busyboxes.path_of(request.param)


@pytest.fixture(scope="session")
def dracut_root() -> Path:
    """The same with an initrd by dracut. Made once for the checkout, which takes some minutes."""
    root = shared("dracut")
    make(root, "dracut")
    return root


def pytest_terminal_summary(terminalreporter):
    """What each promise came to, where a torture run asked for it.

    A test says its number by `record_property("R1", "1,000 kill points, 0 torn")`.
    """
    if not os.environ.get("LTSP_TORTURE"):
        return
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: dict[str, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            for promise in promises_of(report.nodeid):
                outcomes[promise][outcome] += 1
            for name, value in report.user_properties:
                if name in PROMISES and report.when == "call":
                    numbers[name].append(str(value))
    terminalreporter.section("promises")
    for promise, text in PROMISES.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes[promise].items()) or "not run"
        terminalreporter.write_line(f"{promise:4}{text}: {'; '.join([counts, *numbers[promise]])}")
