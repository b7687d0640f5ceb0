"""`ltsp boottest` on a real image: QEMU without KVM, real servers, and the verdict of the booted system itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from corpus import bootable_site, diskless
from ltsp.boottest import run, servers
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import HOST_ADDRESS, VirtualMachine
from ltsp.boottest.servers import BootRoute
from ltsp.build.boot_gate import require_bootable
from ltsp.commands.boottest import boottest
from ltsp.errors import LtspError, UsageError
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import BootTestOptions

SECONDS = 300
"""A successful boot takes 30 to 60 on two slow processors."""


@dataclass
class RecordingReport:
    """A report that records its lines."""

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
def lab(debian_root, tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    return bootable_site.published(debian_root, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


def outcome(lab, **options):
    report = RecordingReport()
    chosen = BootTestOptions(accel="tcg", timeout=SECONDS, json=True, **options)
    with diskless.one_at_a_time():
        status = boottest(bootable_site.NAME, chosen, lab.places, report)
    return status, report.facts


def left_behind():
    """Names of running programs of a test."""
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    return [name for name in names if name in {"ganesha.nfsd", "nbdkit", "rpcbind"}]


def boot(function):
    for mark in (pytest.mark.boot, pytest.mark.root, pytest.mark.timeout(1800)):
        function = mark(function)
    return function


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@boot
@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("nfs", {}),
        ("nbd", {"fetch": "http"}),
        ("http", {"memory": 1280, "version": True}),
        ("file", {"memory": 1500, "fetch": "http"}),
        slow("http", {"memory": 1280, "firmware": "uefi"}),
    ],
)
def test_a_published_image_boots_and_reports_it(lab, tmp_path, record_property, transport, options):
    """Through the menu of `ltsp ipxe`, if no version is given."""
    console, screen = tmp_path / "console", tmp_path / "screen.png"
    through_menu = "version" not in options
    if not through_menu:
        options = {**options, "version": lab.current.id}
    status, facts = outcome(lab, transport=transport, console=str(console), screenshot=str(screen), **options)
    record_property(f"{transport} {options}", facts["seconds"])
    assert (status, facts["passed"], facts["cause"]) == (0, True, None), json.dumps(facts, indent=1)
    guest = facts["guest"]
    assert (guest["root"]["source"], guest["root"]["fstype"]) == ("ltsp", "overlay")
    assert (guest["state"], guest["failed"]) == ("running", [])
    assert guest["available_kib"] > 0
    assert guest["received"]["eth0"] > 1_000_000 or transport == "file"
    assert {"firmware", "ipxe", "kernel", "initrd", "root", "systemd", "login"} <= set(facts["seconds"])
    assert ("menu" in facts["seconds"]) == facts["menu"] == through_menu
    assert b"ltsp: stage switch" in console.read_bytes()
    assert screen.read_bytes().startswith(b"\x89PNG")


@boot
def test_a_kernel_is_published_when_it_has_booted_with_the_current_image(lab):
    before = lab.current
    with diskless.one_at_a_time():
        done = lab.site.ltsp("kernel", "--boot-test=nfs", "--client-drivers=virtio_net", bootable_site.NAME)
    assert "boots via nfs, in" in done.stderr
    assert lab.current.id > before.id
    assert lab.current.is_image_of(before)
    assert not lab.current.staged


def subject(lab, **changes):
    return replace(require_bootable(lab.current), **changes)


def verdict(route, *, seconds=SECONDS, memory=1280):
    with diskless.one_at_a_time(), servers.start_servers(route, lambda _line: None) as where:
        return run.run_boot_test(
            VirtualMachine(where.boot, where.firmware, memory=memory), run.WatchOptions(seconds), route.subject.image
        )


@pytest.fixture
def tftp(lab, tmp_path):
    """A copy of the site's TFTP directory, as links, in which a test may replace files of the current version."""
    copy = tmp_path / "tftp"
    home = copy / "ltsp" / bootable_site.NAME
    shutil.copytree(lab.site.tftp / "ltsp", copy / "ltsp", symlinks=True, copy_function=os.link)
    return copy, home / lab.current.id


@boot
def test_a_menu_entry_of_a_missing_version_fails_immediately(lab, tftp):
    directory, version = tftp
    shutil.rmtree(version)
    seen = verdict(BootRoute(subject(lab, tftp_dir=str(directory)), True, "nfs", "tftp"))
    assert seen.cause == f"version {version.name} of lab could not be fetched (the menu could not boot lab)"
    assert "ltsp kernel lab publishes it again" in seen.remedy
    assert seen.stage is BootStage.MENU


@boot
@pytest.mark.slow
def test_a_menu_without_the_add_on_names_the_applet_to_run(lab, tftp):
    directory, _ = tftp
    (directory / "ltsp/ltsp.img").unlink()
    seen = verdict(BootRoute(subject(lab, tftp_dir=str(directory)), True, "http", "http"))
    assert seen.cause == "ltsp.img not found (the menu could not boot lab)"
    assert seen.remedy == "run ltsp initrd on the server"


@boot
@pytest.mark.slow
def test_a_menu_without_the_image_is_reported_as_outdated(lab, tftp):
    directory, _ = tftp
    seen = verdict(BootRoute(subject(lab, tftp_dir=str(directory), name="lab2"), True, "nfs", "tftp"))
    assert "the menu could not boot" in seen.cause
    assert "ltsp ipxe" in seen.remedy


@boot
def test_the_client_reports_a_wrong_checksum_and_the_test_fails(lab):
    seen = verdict(BootRoute(subject(lab, sha256="0" * 64), False, "http", "http"))
    assert not seen.passed
    assert "checksum" in seen.cause
    assert seen.remedy


@boot
@pytest.mark.slow
def test_a_missing_version_is_reported_by_the_file_that_cannot_be_fetched(lab):
    seen = verdict(BootRoute(subject(lab, version="20200101T000000Z-00000000"), False, "nfs", "tftp"))
    assert not seen.passed
    assert "iPXE could not fetch" in seen.cause
    assert "vmlinuz" in seen.cause


@boot
@pytest.mark.slow
def test_the_client_reports_an_image_missing_on_the_server(lab):
    seen = verdict(BootRoute(subject(lab, image="images/.versions/lab/gone/image.img"), False, "http", "http"))
    assert not seen.passed
    assert f"http://{HOST_ADDRESS}/images/.versions/lab/gone/image.img" in seen.cause


@boot
@pytest.mark.slow
def test_an_unreachable_server_is_named(lab, monkeypatch):
    monkeypatch.setattr(servers, "_root_url", lambda _route: "http://10.0.2.77/images/lab.img")
    seen = verdict(BootRoute(subject(lab), False, "http", "tftp"))
    assert not seen.passed
    assert "10.0.2.77" in seen.cause
    assert seen.remedy
    assert seen.stage is BootStage.ATTACH


@boot
@pytest.mark.slow
def test_too_little_memory_for_the_image_suggests_other_transports(lab):
    seen = verdict(BootRoute(subject(lab), False, "http", "tftp"), memory=300)
    assert not seen.passed
    assert "memory" in seen.cause
    assert "NFS or NBD" in seen.remedy


@boot
@pytest.mark.slow
def test_an_initrd_without_squashfs_names_the_missing_module(lab, tftp, debian_root, tmp_path, monkeypatch):
    modules = {**diskless.GROUPS, "base": [name for name in diskless.GROUPS["base"] if name != "squashfs"]}
    monkeypatch.setattr(diskless, "GROUPS", modules)
    directory, version = tftp
    (version / "client.img").unlink()
    diskless.initrd(debian_root, tmp_path).rename(version / "client.img")
    seen = verdict(BootRoute(subject(lab, tftp_dir=str(directory)), False, "nfs", "tftp"))
    assert not seen.passed
    assert "squashfs" in seen.cause
    assert seen.remedy


@boot
def test_a_boot_that_times_out_reports_the_last_stage(lab):
    seen = verdict(BootRoute(subject(lab), False, "nfs", "tftp"), seconds=4)
    assert seen.cause == "not finished after 4 seconds; last stage: iPXE"


@boot
def test_killing_a_test_also_ends_its_machine_and_servers(lab):
    places = lab.places
    before = left_behind()
    code = (
        "from ltsp.commands.boottest import *\nfrom ltsp.settings.applets import LtspOptions\n"
        "from ltsp.settings.network_options import BootTestOptions\n"
        "class R:\n    def note(self, text): print(text, flush=True)\n"
        f"boottest({bootable_site.NAME!r}, BootTestOptions(accel='tcg'), LtspOptions(base_dir={places.base_dir!r}, "
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


def test_an_unpublished_image_cannot_be_tested(tmp_path):
    places = LtspOptions(base_dir=str(tmp_path), tftp_dir=str(tmp_path), home_dir=str(tmp_path))
    with pytest.raises(LtspError, match="no image lab is published"):
        boottest("lab", BootTestOptions(), places, RecordingReport())


def test_kernel_arguments_that_a_script_cannot_contain_are_refused(tmp_path):
    places = LtspOptions(base_dir=str(tmp_path), tftp_dir=str(tmp_path), home_dir=str(tmp_path))
    with pytest.raises(UsageError, match=r"option --kernel-arguments: .* contains '\$'"):
        boottest("lab", BootTestOptions(kernel_arguments="quiet ${x}"), places, RecordingReport())


def test_an_unwritable_screenshot_path_fails_before_the_boot(tmp_path):
    places = LtspOptions(base_dir=str(tmp_path), tftp_dir=str(tmp_path), home_dir=str(tmp_path))
    for path in (tmp_path / "nowhere/screen.png", tmp_path):
        with pytest.raises(LtspError, match="cannot write"):
            boottest("lab", BootTestOptions(screenshot=str(path)), places, RecordingReport())
