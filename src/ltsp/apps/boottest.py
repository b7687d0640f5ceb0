"""`ltsp boottest`: boot what is published in a virtual machine, and say what happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ltsp.apps import amount
from ltsp.apps.report import Report
from ltsp.boot.ipxe import Unwritable, written
from ltsp.boottest import acceleration, run, site
from ltsp.boottest.console import Stage
from ltsp.boottest.machine import Accel, Machine
from ltsp.boottest.site import Route, Subject
from ltsp.boottest.verdict import Verdict, server_lines
from ltsp.errors import LtspError, UsageError
from ltsp.publish.generation import Generation
from ltsp.publish.places import CLIENT, NBD
from ltsp.publish.state import Foreign, State
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import BootTestOptions
from ltsp.tree.name import printable

_TOLD = 12
"""Last lines of the console that people get with a failure; the JSON form has more."""


def boottest(name: str, options: BootTestOptions, places: LtspOptions, report: Report) -> int:
    """Boot a version of an image, print the verdict, and return the exit status: 0 where it passed.

    Raises UsageError for words that no script can hold, and LtspError where the test cannot be made.
    """
    words = _words(options.kernel_arguments)
    if options.screenshot is not None:
        _expect_writable(options.screenshot)
    state = Store(places.base_dir, places.tftp_dir).state(name)
    subject = subject_of(_generation(state, options.version), state.image)
    through_menu = options.version is None and subject.has_menu
    if options.version is None and not through_menu:
        report.note("there is no menu yet, so the version is booted without one; ltsp ipxe makes it")
    route = Route(
        subject,
        through_menu,
        options.transport,
        options.fetch,
        uefi=options.firmware == "uefi",
        extra=words,
    )
    accel = acceleration.best() if options.accel == "auto" else Accel(options.accel)
    with _log(options.console) as printed, site.served(route, report.note) as where:
        machine = Machine(where.boot, where.firmware, accel, options.memory)
        watch = run.Watch(
            timeout=options.timeout,
            reached=progress(report),
            printed=printed,
            screenshot=options.screenshot or "",
        )
        verdict = run.run(machine, watch, subject.image, where.servers)
    if options.json:
        report.result(_facts(route, accel, options, verdict))
    else:
        for line in _told(route, verdict):
            report.say(line)
    return 0 if verdict.passed else 1


def progress(report: Report) -> Callable[[Stage, float], None]:
    """Tells how far a boot has come."""
    return lambda stage, seconds: report.note(f"{seconds:6.1f} s  {stage.value}")


def _words(text: str) -> str:
    try:
        return written(text)
    except Unwritable as fault:
        raise UsageError(
            f"option --kernel-arguments: {printable(text)!r} {fault}, which no iPXE script can hold",
            "give words without it",
        ) from None


def _expect_writable(path: str) -> None:
    """It is written when the boot is over, which nobody should have waited for in vain.

    Raises LtspError.
    """
    if os.path.isdir(path) or not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        raise LtspError(f"cannot write {printable(path)}", "name a file in a directory that is there")


def _generation(state: State, version: str | None) -> Generation:
    name = state.places.name
    if not state.exists:
        raise LtspError(f"no image {printable(name)} is published", "ltsp info lists what there is")
    if version is not None:
        return state.existing(version)
    if state.current is None:
        remedy = f"ltsp versions {name} lists what there is" if state.generations else f"ltsp kernel {name} makes one"
        raise LtspError(f"{name} has no version that clients boot", remedy)
    return state.current


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


@contextmanager
def _log(path: str | None) -> Iterator[Callable[[bytes, float], None]]:
    """Raises LtspError where the file cannot be written."""
    if path is None:
        yield lambda _data, _seconds: None
        return
    try:
        file = open(path, "wb")  # noqa: SIM115 -- closed below, and a failure of the block is none of the file's
    except OSError as error:
        raise LtspError(f"cannot write {printable(path)}: {error.strerror}") from error
    with file:
        yield lambda data, _seconds: _write(file.write, data)


def _write(write: Callable[[bytes], int], data: bytes) -> None:
    write(data)


def _facts(route: Route, accel: Accel, options: BootTestOptions, verdict: Verdict) -> dict[str, object]:
    return {
        "name": route.subject.name,
        "version": route.subject.version,
        "menu": route.through_menu,
        "transport": route.transport,
        "fetch": route.fetch,
        "firmware": options.firmware,
        "accel": accel.value,
        "memory_mib": options.memory,
        **verdict.as_dict(),
    }


def _told(route: Route, verdict: Verdict) -> Iterator[str]:
    name, version = route.subject.name, route.subject.version
    if verdict.passed:
        yield f"{name} {version} boots by {route.transport}"
    else:
        yield f"{name} {version} does not boot by {route.transport}: {verdict.cause}"
        if verdict.remedy:
            yield f"  what to do: {verdict.remedy}"
    yield "  " + ", ".join(
        f"{stage.value} {seconds:.1f} s" for stage, seconds in verdict.seconds.items() if stage is not Stage.POWER
    )
    if verdict.guest:
        received = sum(verdict.guest.received.values())
        free = verdict.guest.available << 10
        yield f"  received {amount.size(received)}, {amount.size(free)} of memory left, systemd {verdict.guest.state}"
    if not verdict.passed:
        yield from (f"  | {line}" for line in verdict.tail[-_TOLD:])
        yield from (f"  {line}" for line in server_lines(verdict))
