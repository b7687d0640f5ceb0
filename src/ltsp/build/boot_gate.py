"""The boot test as a gate: a version is published only after a virtual machine has booted it as clients do."""

from __future__ import annotations

import os
from collections.abc import Callable

from ltsp.boottest import run, servers
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import VirtualMachine, choose_accelerator
from ltsp.boottest.servers import BootRoute, BootSubject
from ltsp.boottest.verdict import Verdict, format_server_logs
from ltsp.errors import LtspError
from ltsp.publish.gc import Retention
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.paths import CLIENT_INITRD, NBD_INITRD
from ltsp.publish.stage import StagedVersion
from ltsp.publish.state import ForeignImage
from ltsp.publish.switch import PublishedVersion
from ltsp.publish.version import Version
from ltsp.report.internal_error import to_ltsp_error
from ltsp.report.report import Report

_BOOT_TIMEOUT = 900
"""From power-on. Nobody waits at the screen, and a large system that is emulated on a busy server is slow."""
_SILENCE_TIMEOUT = 300
"""Seconds. systemd prints a line for each unit, and for those that it waits for."""
_BASE_MEMORY = 1024
"""MiB, besides an image that a client fetches whole."""
_SHOWN_CONSOLE_LINES = 12


def boot_and_publish(
    locked: LockedImage,
    staged: StagedVersion,
    transport: str,
    report: Report,
    *,
    backup: bool = True,
    retention: Retention,
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
        raise _boot_error(
            locked, version_id, to_ltsp_error(error), f"could not test whether it boots via {transport}"
        ) from error
    if not verdict.passed:
        for line in verdict.tail[-_SHOWN_CONSOLE_LINES:]:
            report.note(f"| {line}")
        for line in format_server_logs(verdict):
            report.note(line)
        raise _boot_error(
            locked, version_id, LtspError(verdict.cause, verdict.remedy), f"it does not boot via {transport}"
        )
    seconds = verdict.seconds.get(BootStage.LOGIN) or max(verdict.seconds.values())
    report.note(f"version {version_id} of {name} boots via {transport}, in {seconds:.1f} s")
    return locked.publish_staged(staged, backup=backup, retention=retention)


def _boot_staged(version: Version, transport: str, report: Report) -> Verdict:
    subject = require_bootable(version)
    image = version.manifest.image
    # A whole image is in memory twice while the kernel unpacks its initrds.
    extra_memory = 2 * image.size >> 20 if image and transport in servers.WHOLE_IMAGE_TRANSPORTS else 0
    # The menu boots the current version, which this is not yet.
    route = BootRoute(subject, through_menu=False, transport=transport, fetch="tftp")
    with servers.start_servers(route, report.note) as test_network:
        machine = VirtualMachine(
            test_network.boot, test_network.firmware, choose_accelerator(), _BASE_MEMORY + extra_memory
        )
        return run.run_boot_test(
            machine,
            run.WatchOptions(_BOOT_TIMEOUT, _SILENCE_TIMEOUT, make_stage_callback(report)),
            subject.image,
            test_network.servers,
        )


def _boot_error(locked: LockedImage, version_id: str, error: LtspError, reason: str) -> LtspError:
    name = locked.paths.name
    current = locked.state().current
    clients = f"clients still boot {current.id}" if current else "clients have no version to boot"
    remedies = (
        *((error.hint,) if error.hint else ()),
        f"to test it again: ltsp boottest {name} --version={version_id}",
        f"to publish it untested: ltsp versions {name} --use={version_id}",
    )
    return LtspError(
        f"version {version_id} of {name} was not published; {clients}: {reason}: {error.message}", "; ".join(remedies)
    )


def make_stage_callback(report: Report) -> Callable[[BootStage, float], None]:
    """A callback that notes each stage of a boot."""
    return lambda stage, seconds: report.note(f"{seconds:6.1f} s  {stage.value}")


def require_bootable(version: Version, published: Version | ForeignImage | None = None) -> BootSubject:
    """The version as a boot test needs it; without an image of its own, it boots `published`, which is NAME.img.

    Raises LtspError if clients cannot boot it over any transport.
    """
    paths, version_id = version.paths, version.id
    if not version.has_kernel:
        raise LtspError(f"version {version_id} of {paths.name} has no kernel", f"publish one: ltsp kernel {paths.name}")
    facts = version.manifest.image
    own_image = version.image if version.image_id is not None and facts is not None else None
    image = own_image or (published.path if isinstance(published, ForeignImage) else None)
    if image is None:
        raise LtspError(f"version {version_id} of {paths.name} has no image", f"make one: ltsp image {paths.name}")
    if CLIENT_INITRD not in version.manifest.files:
        raise LtspError(
            f"version {version_id} of {paths.name} has no clients' initrd", f"make one: ltsp kernel {paths.name}"
        )
    return BootSubject(
        paths.name,
        version_id,
        paths.base_dir,
        paths.tftp_dir,
        os.path.relpath(image, paths.base_dir),
        facts.sha256 if facts else "",
        CLIENT_INITRD,
        NBD_INITRD if NBD_INITRD in version.manifest.files else "",
    )
