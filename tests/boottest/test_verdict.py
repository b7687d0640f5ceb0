from __future__ import annotations

import json

import pytest

from ltsp.boottest.console import REPORT_PREFIX, BootStage, Console
from ltsp.boottest.verdict import GuestReport, Verdict
from ltsp.errors import FormatError

GOOD = {
    "source": "ltsp",
    "fstype": "overlay",
    "root": "nfs://10.0.2.2/srv/ltsp/images!.versions/lab/V/image.img",
    "state": "running",
    "failed": [],
    "cmdline": "rdinit=/ltsp/init console=ttyS0",
    "received": {"eth0": 31000000},
    "available": 700000,
}


def verdict(ending="", lines=b"", **changes):
    console = Console()
    console.feed(b"Linux version 6.1\n", 5.0)
    console.feed(lines, 6.0)
    if changes or not (ending or lines):
        console.feed(REPORT_PREFIX.encode() + json.dumps({**GOOD, **changes}).encode() + b"\n", 20.0)
    return Verdict.of(console, ending)


def test_a_running_system_on_our_overlay_passes():
    seen = verdict()
    assert (seen.passed, seen.cause, seen.remedy) == (True, "", "")
    assert seen.guest == GuestReport(**{**GOOD, "failed": ()})
    assert json.loads(json.dumps(seen.to_json())) == {
        "passed": True,
        "cause": None,
        "remedy": None,
        "stage": "kernel",
        "seconds": {"power": 0.0, "kernel": 5.0},
        "guest": {
            "root": {"source": "ltsp", "fstype": "overlay", "url": GOOD["root"]},
            "state": "running",
            "failed": [],
            "cmdline": GOOD["cmdline"],
            "received": {"eth0": 31000000},
            "available_kib": 700000,
        },
        "tail": ["Linux version 6.1", REPORT_PREFIX + json.dumps(GOOD)],
        "servers": {},
    }


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"source": "/dev/sda1", "fstype": "ext4"}, "the root is ext4 from /dev/sda1, not the client's overlay"),
        ({"source": "overlayroot"}, "the root is overlay from overlayroot, not the client's overlay"),
        ({"failed": ["a.service", "b.mount"], "state": "degraded"}, "units failed: a.service, b.mount"),
        ({"state": "maintenance"}, "systemd reports the state maintenance, not running"),
    ],
)
def test_a_system_that_came_up_badly_does_not_pass(changes, cause):
    seen = verdict(**changes)
    assert (seen.passed, seen.cause) == (False, cause)
    assert seen.remedy


def test_another_image_than_expected_does_not_pass():
    console = Console()
    console.feed(
        REPORT_PREFIX.encode() + json.dumps({**GOOD, "cmdline": "ltsp.image=images/old.img"}).encode() + b"\n", 20.0
    )
    assert Verdict.of(console, "", "images/old.img").passed
    assert Verdict.of(console, "", "images/old").cause == "the client booted another image, not images/old"


def test_a_boot_that_hangs_is_reported_with_its_last_stage():
    seen = verdict("not finished after 180 seconds")
    assert seen.cause == "not finished after 180 seconds; last stage: kernel"
    assert seen.stage is BootStage.KERNEL


def test_the_first_problem_comes_first():
    seen = verdict(lines=b"tftp://10.0.2.2/x... No such file (https://ipxe.org/1)\nKernel panic - not syncing: x\n")
    assert seen.cause == "iPXE could not fetch tftp://10.0.2.2/x: No such file (the kernel panicked: x)"
    assert seen.remedy == "check the path and the server"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "nonsense",
        json.dumps(GOOD)[:-1],
        json.dumps({**GOOD, "more": 1}),
        json.dumps({**GOOD, "available": "1"}),
        json.dumps({**GOOD, "available": True}),
        json.dumps({**GOOD, "failed": [1]}),
        json.dumps({**GOOD, "received": {"eth0": -0.5}}),
        "[" * 100000,
    ],
)
def test_an_invalid_report_is_refused(text):
    with pytest.raises(FormatError, match="report"):
        GuestReport.parse(text)


def test_a_damaged_report_is_a_cause():
    console = Console()
    console.feed(REPORT_PREFIX.encode() + b'{"source":"ltsp",[    9.0] usb 1-1: new device"}\n', 9.0)
    seen = Verdict.of(console, "")
    assert (seen.passed, seen.cause) == (False, "the booted system's report is damaged")
