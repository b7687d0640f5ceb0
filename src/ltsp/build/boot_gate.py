"""The boot test as a gate: a version is published only after a virtual machine has booted it, as clients would."""

from __future__ import annotations

import os
from collections.abc import Callable

from ltsp.boottest import acceleration, run, test_servers
from ltsp.boottest.console import Stage
from ltsp.boottest.machine import Machine
from ltsp.boottest.test_servers import Route, Subject
from ltsp.boottest.verdict import Verdict, server_lines
from ltsp.errors import LtspError
from ltsp.publish.contents import Published, Staged
from ltsp.publish.generation import Generation
from ltsp.publish.locked_image import Held
from ltsp.publish.paths import CLIENT, NBD
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign
from ltsp.report.internal_error import told
from ltsp.report.report import Report

_SECONDS = 900
"""From power-on. Nobody waits at the screen: a large system that is emulated beside other work may take its time."""
_SILENCE = 300
"""Seconds. A system that starts tells of each unit, and of those that keep it waiting."""
_MEMORY = 1024
"""MiB, besides what a client fetches as a whole."""
_LAST_LINES = 12


def publish_booted(
    held: Held, staged: Staged, transport: str, report: Report, *, backup: bool = True, keep: Retention
) -> Published:
    """Boot the version that waits, then make it the current one.

    Raises LtspError where it does not boot, or where nobody can tell; then it goes on waiting, and clients go on
    booting what they did before.
    """
    generation = staged.generation
    name, version = held.places.name, generation.version
    report.note(f"version {version} of {name} is staged: clients get it when it has booted")
    try:
        with report.step(f"booting {name} by {transport}"):
            verdict = _verdict(generation, transport, report)
    except Exception as error:  # whatever it was, people are to know what became of their version
        raise _refused(held, version, told(error), f"nobody knows whether it boots by {transport}") from error
    if not verdict.passed:
        for line in verdict.tail[-_LAST_LINES:]:
            report.note(f"| {line}")
        for line in server_lines(verdict):
            report.note(line)
        raise _refused(held, version, LtspError(verdict.cause, verdict.remedy), f"it does not boot by {transport}")
    seconds = verdict.seconds.get(Stage.LOGIN) or max(verdict.seconds.values())
    report.note(f"version {version} of {name} boots by {transport}, in {seconds:.1f} s")
    return held.publish_staged(staged, backup=backup, keep=keep)


def _verdict(generation: Generation, transport: str, report: Report) -> Verdict:
    subject = subject_of(generation)
    image = generation.manifest.image
    # As a file it is in memory twice while the kernel unpacks its initrds.
    whole = 2 * image.size >> 20 if image and transport in test_servers.WHOLE else 0
    # The menu leads to the current version, which this is not yet.
    route = Route(subject, through_menu=False, transport=transport, fetch="tftp")
    with test_servers.served(route, report.note) as where:
        machine = Machine(where.boot, where.firmware, acceleration.best(), _MEMORY + whole)
        return run.run(machine, run.Watch(_SECONDS, _SILENCE, progress(report)), subject.image, where.servers)


def _refused(held: Held, version: str, error: LtspError, why: str) -> LtspError:
    name = held.places.name
    current = held.state().current
    clients = f"clients go on booting {current.version}" if current else "nothing is published"
    remedies = (
        *((error.hint,) if error.hint else ()),
        f"ltsp boottest {name} --version={version} tries again",
        f"ltsp versions {name} --use={version} publishes it untested",
    )
    return LtspError(
        f"version {version} of {name} stays staged and {clients}: {why}: {error.message}", "; ".join(remedies)
    )


def progress(report: Report) -> Callable[[Stage, float], None]:
    """Tells how far a boot has come."""
    return lambda stage, seconds: report.note(f"{seconds:6.1f} s  {stage.value}")


def subject_of(generation: Generation, shown: Generation | Foreign | None = None) -> Subject:
    """The version, for a test; `shown` is what NAME.img is, which a version without an image of its own boots.

    Raises LtspError where clients could not boot it, whatever the way.
    """
    places, version = generation.places, generation.version
    if not generation.bootable:
        raise LtspError(f"version {version} of {places.name} has no kernel", f"type ltsp kernel {places.name}")
    facts = generation.manifest.image
    own = generation.image if generation.image_id is not None and facts is not None else None
    image = own or (shown.path if isinstance(shown, Foreign) else None)
    if image is None:
        raise LtspError(f"version {version} of {places.name} has no image", f"make one: ltsp image {places.name}")
    if CLIENT not in generation.manifest.files:
        raise LtspError(f"version {version} of {places.name} has no client's initrd", f"ltsp kernel {places.name}")
    return Subject(
        places.name,
        version,
        places.base_dir,
        places.tftp_dir,
        os.path.relpath(image, places.base_dir),
        facts.sha256 if facts else "",
        CLIENT,
        NBD if NBD in generation.manifest.files else "",
    )
