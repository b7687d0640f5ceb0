"""The boot test as a gate: a version is published only after a virtual machine has booted it as clients do."""

from __future__ import annotations

import os
from collections.abc import Callable

from ltsp.boottest import run, test_servers
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import VirtualMachine, choose_accelerator
from ltsp.boottest.test_servers import BootRoute, BootSubject
from ltsp.boottest.verdict import Verdict, server_lines
from ltsp.errors import LtspError
from ltsp.publish.gc import Retention
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.paths import CLIENT, NBD
from ltsp.publish.stage import StagedVersion
from ltsp.publish.state import ForeignImage
from ltsp.publish.switch import PublishedVersion
from ltsp.publish.version import Version
from ltsp.report.internal_error import to_ltsp_error
from ltsp.report.report import Report

_SECONDS = 900
"""From power-on. Nobody waits at the screen, and a large system that is emulated on a busy server is slow."""
_SILENCE = 300
"""Seconds. systemd prints a line for each unit, and for those that it waits for."""
_MEMORY = 1024
"""MiB, besides an image that a client fetches whole."""
_LAST_LINES = 12


def boot_and_publish(
    locked: LockedImage, staged: StagedVersion, transport: str, report: Report, *, backup: bool = True, keep: Retention
) -> PublishedVersion:
    """Boot the staged version, then make it the current one.

    Raises LtspError if it does not boot, or if the test fails; then it stays staged, and clients continue to boot the
    version before.
    """
    version = staged.version
    name, version_id = locked.paths.name, version.id
    report.note(f"version {version_id} of {name} is staged: clients get it once it has passed the boot test")
    try:
        with report.step(f"booting {name} via {transport}"):
            verdict = _boot_staged(version, transport, report)
    except Exception as error:  # of any kind: the message says what happened to the version
        raise _boot_failure(
            locked, version_id, to_ltsp_error(error), f"could not test whether it boots via {transport}"
        ) from error
    if not verdict.passed:
        for line in verdict.tail[-_LAST_LINES:]:
            report.note(f"| {line}")
        for line in server_lines(verdict):
            report.note(line)
        raise _boot_failure(
            locked, version_id, LtspError(verdict.cause, verdict.remedy), f"it does not boot via {transport}"
        )
    seconds = verdict.seconds.get(BootStage.LOGIN) or max(verdict.seconds.values())
    report.note(f"version {version_id} of {name} boots via {transport}, in {seconds:.1f} s")
    return locked.publish_staged(staged, backup=backup, keep=keep)


def _boot_staged(version: Version, transport: str, report: Report) -> Verdict:
    subject = boot_test_subject(version)
    image = version.manifest.image
    # A whole image is in memory twice while the kernel unpacks its initrds.
    whole = 2 * image.size >> 20 if image and transport in test_servers.WHOLE_IMAGE_TRANSPORTS else 0
    # The menu boots the current version, which this is not yet.
    route = BootRoute(subject, through_menu=False, transport=transport, fetch="tftp")
    with test_servers.start_servers(route, report.note) as where:
        machine = VirtualMachine(where.boot, where.firmware, choose_accelerator(), _MEMORY + whole)
        return run.run_boot_test(
            machine, run.WatchOptions(_SECONDS, _SILENCE, stage_reporter(report)), subject.image, where.servers
        )


def _boot_failure(locked: LockedImage, version_id: str, error: LtspError, why: str) -> LtspError:
    name = locked.paths.name
    current = locked.state().current
    clients = f"clients still boot {current.id}" if current else "clients have no version to boot"
    remedies = (
        *((error.hint,) if error.hint else ()),
        f"to test it again: ltsp boottest {name} --version={version_id}",
        f"to publish it untested: ltsp versions {name} --use={version_id}",
    )
    return LtspError(
        f"version {version_id} of {name} was not published; {clients}:  {why}: {error.message}", "; ".join(remedies)
    )


def stage_reporter(report: Report) -> Callable[[BootStage, float], None]:
    """A callback that notes each stage of a boot."""
    return lambda stage, seconds: report.note(f"{seconds:6.1f} s  {stage.value}")


def boot_test_subject(version: Version, shown: Version | ForeignImage | None = None) -> BootSubject:
    """The version as a boot test needs it; without an image of its own, it boots `shown`, which is NAME.img.

    Raises LtspError if clients cannot boot it over any transport.
    """
    places, version_id = version.paths, version.id
    if not version.has_kernel:
        raise LtspError(
            f"version {version_id} of {places.name} has no kernel", f"publish one: ltsp kernel {places.name}"
        )
    facts = version.manifest.image
    own = version.image if version.image_id is not None and facts is not None else None
    image = own or (shown.path if isinstance(shown, ForeignImage) else None)
    if image is None:
        raise LtspError(f"version {version_id} of {places.name} has no image", f"make one: ltsp image {places.name}")
    if CLIENT not in version.manifest.files:
        raise LtspError(
            f"version {version_id} of {places.name} has no clients' initrd", f"make one: ltsp kernel {places.name}"
        )
    return BootSubject(
        places.name,
        version_id,
        places.base_dir,
        places.tftp_dir,
        os.path.relpath(image, places.base_dir),
        facts.sha256 if facts else "",
        CLIENT,
        NBD if NBD in version.manifest.files else "",
    )
