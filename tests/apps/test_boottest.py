"""`ltsp boottest` on a real image: QEMU without KVM, real servers, and the verdict of the booted system itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from corpus import bootable, diskless
from ltsp.apps.boottest import boottest
from ltsp.boottest import run, site
from ltsp.boottest.machine import HOST, Machine
from ltsp.boottest.site import Route, Subject
from ltsp.errors import LtspError
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import BootTestOptions

SECONDS = 300
"""A good boot takes 30 to 60 on two slow processors."""


@dataclass
class Told:
    """A report that remembers."""

    lines: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    def step(self, _title, _total=None):
        return nullcontext()

    def say(self, text):
        self.lines.append(text)

    note = warn = failure = say

    def result(self, facts):
        self.facts = json.loads(json.dumps(facts))


@pytest.fixture(scope="module")
def places(debian_root, tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    return bootable.published(debian_root, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def outcome(places, **options):
    told = Told()
    chosen = BootTestOptions(accel="tcg", timeout=SECONDS, json=True, **options)
    with diskless.one_at_a_time():
        status = boottest(bootable.NAME, chosen, places, told)
    return status, told.facts


def left_behind():
    """Programs of a test that run, by their names."""
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return [name for name in names if name in {"ganesha.nfsd", "nbdkit", "rpcbind"}]


pytest_boot = [pytest.mark.boot, pytest.mark.root, pytest.mark.timeout(1800)]


def boot(function):
    for mark in pytest_boot:
        function = mark(function)
    return function


@boot
@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("nfs", {}),
        ("nbd", {"fetch": "http"}),
        ("http", {"memory": 1280}),
        ("file", {"memory": 1500, "fetch": "http"}),
        ("http", {"memory": 1280, "firmware": "uefi"}),
    ],
)
def test_a_published_image_boots_and_says_so_itself(places, tmp_path, record_property, transport, options):
    console, screen = tmp_path / "console", tmp_path / "screen.png"
    status, facts = outcome(places, transport=transport, console=str(console), screenshot=str(screen), **options)
    record_property(f"{transport} {options}", facts["seconds"])
    assert (status, facts["passed"], facts["cause"]) == (0, True, None), json.dumps(facts, indent=1)
    guest = facts["guest"]
    assert (guest["root"]["source"], guest["root"]["fstype"]) == ("ltsp", "overlay")
    assert (guest["state"], guest["failed"]) == ("running", [])
    assert guest["available_kib"] > 0
    assert guest["received"]["eth0"] > 1_000_000 or transport == "file"
    assert {"firmware", "ipxe", "kernel", "initrd", "root", "systemd", "login"} <= set(facts["seconds"])
    assert b"ltsp: stage switch" in console.read_bytes()
    assert screen.read_bytes().startswith(b"\x89PNG")


def subject(places, **changes):
    generation = bootable.current(Store(places.base_dir, places.tftp_dir))
    assert generation.manifest.image is not None
    image = os.path.relpath(generation.image, places.base_dir)
    found = Subject(
        bootable.NAME,
        generation.version,
        places.base_dir,
        places.tftp_dir,
        image,
        generation.manifest.image.sha256,
        "client.img",
    )
    return replace(found, **changes)


def verdict(route, seconds=SECONDS):
    with diskless.one_at_a_time(), site.served(route, lambda _line: None) as where:
        return run.run(Machine(where.boot, where.firmware, memory=1280), run.Watch(seconds), route.subject.image)


@boot
def test_a_wrong_sum_is_told_by_the_client_and_fails_the_test(places):
    seen = verdict(Route(subject(places, sha256="0" * 64), False, "http", "http"))
    assert not seen.passed
    assert "checksum" in seen.cause
    assert seen.remedy


@boot
def test_a_version_that_is_gone_is_told_by_what_could_not_be_fetched(places):
    seen = verdict(Route(subject(places, version="20200101T000000Z-00000000"), False, "nfs", "tftp"))
    assert not seen.passed
    assert "iPXE could not fetch" in seen.cause
    assert "vmlinuz" in seen.cause


@boot
def test_an_image_that_the_server_does_not_have_is_told_by_the_client(places):
    seen = verdict(Route(subject(places, image="images/.versions/lab/gone/image.img"), False, "http", "http"))
    assert not seen.passed
    assert f"http://{HOST}/images/.versions/lab/gone/image.img" in seen.cause


@boot
def test_a_boot_that_takes_too_long_says_how_far_it_came(places):
    seen = verdict(Route(subject(places), False, "nfs", "tftp"), seconds=4)
    assert seen.cause == "it was not through after 4 seconds; it got as far as: iPXE"


@boot
def test_a_test_that_is_killed_takes_its_machine_and_servers_along(places):
    before = left_behind()
    code = (
        "from ltsp.apps.boottest import *\nfrom ltsp.settings.applets import LtspOptions\n"
        "from ltsp.settings.network_options import BootTestOptions\n"
        "class R:\n    def note(self, text): print(text, flush=True)\n"
        f"boottest({bootable.NAME!r}, BootTestOptions(accel='tcg'), LtspOptions(base_dir={places.base_dir!r}, "
        f"tftp_dir={places.tftp_dir!r}, home_dir='/home'), R())\n"
    )
    with diskless.one_at_a_time():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ours = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        assert ours.stdout is not None
        assert any("iPXE" in line for line in ours.stdout)
        assert len(left_behind()) > len(before)
        ours.send_signal(signal.SIGKILL)
        ours.wait()
        ours.stdout.close()
        end = time.monotonic() + 10
        while left_behind() != before and time.monotonic() < end:
            time.sleep(0.1)
    assert left_behind() == before


def test_what_is_not_published_cannot_be_tested(tmp_path):
    places = LtspOptions(base_dir=str(tmp_path), tftp_dir=str(tmp_path), home_dir=str(tmp_path))
    with pytest.raises(LtspError, match="no image lab is published"):
        boottest("lab", BootTestOptions(), places, Told())
