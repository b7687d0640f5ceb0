"""`ltsp boottest`: boot what is published in a virtual machine, and say what happened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.apps import amount
from ltsp.apps.report import Report
from ltsp.boottest import acceleration, run, site
from ltsp.boottest.console import Stage
from ltsp.boottest.machine import Accel, Machine
from ltsp.boottest.site import FETCHES, TRANSPORTS, Route, Subject
from ltsp.boottest.verdict import Verdict
from ltsp.errors import LtspError
from ltsp.publish.generation import Generation
from ltsp.publish.places import CLIENT
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.option import Argument, Choice, FileName, Integer, Reach, Text, option, switch
from ltsp.tree.name import printable

_TOLD = 12
"""Last lines of the console that people get with a failure; the JSON form has more."""


@dataclass(frozen=True, slots=True)
class BootTestOptions:
    """ltsp-boottest(8)"""

    version: str | None = option(
        Text("VERSION"),
        "boot this version, without the menu",
        default=None,
        default_text="the current one, through the menu",
        reach=Reach.ONCE,
    )
    transport: str = option(
        Choice(TRANSPORTS),
        "how the client gets its root",
        default="nfs",
        reach=Reach.ONCE,
        details="`file` is an image that iPXE loads together with the initrds.",
    )
    fetch: str = option(
        Choice(FETCHES),
        "how iPXE gets menu, kernel and initrds",
        default="tftp",
        reach=Reach.ONCE,
    )
    firmware: str = option(
        Choice(("bios", "uefi")), "firmware of the virtual machine", default="bios", reach=Reach.ONCE
    )
    accel: str = option(
        Choice(("auto", "kvm", "tcg")),
        "what runs the guest",
        default="auto",
        reach=Reach.ONCE,
        details="`auto` is kvm where a trial of it succeeds within two seconds, else tcg, which emulates.",
    )
    memory: int = option(
        Integer("MIB", least=128, most=1 << 20), "memory of the virtual machine, in MiB", default=1024, reach=Reach.ONCE
    )
    timeout: int = option(
        Integer("SECONDS", least=1, most=86400), "seconds until the test has failed", default=300, reach=Reach.ONCE
    )
    kernel_arguments: str = option(
        Text("WORDS"), "more words for the kernel's command line", default="", reach=Reach.ONCE
    )
    console: str | None = option(
        FileName(), "write all that the serial console says into this file", default=None, reach=Reach.ONCE
    )
    screenshot: str | None = option(
        FileName(), "write what the screen shows at the end into this file, as PNG", default=None, reach=Reach.ONCE
    )
    json: bool = switch("print the verdict as JSON", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


def boottest(name: str, options: BootTestOptions, places: LtspOptions, report: Report) -> int:
    """Boot a version of an image, print the verdict, and return the exit status: 0 where it passed.

    Raises LtspError where the test cannot be made.
    """
    subject = _subject(_generation(Store(places.base_dir, places.tftp_dir), name, options.version))
    through_menu = options.version is None and subject.has_menu
    if options.version is None and not through_menu:
        report.note("there is no menu yet, so the version is booted without one; ltsp ipxe makes it")
    route = Route(
        subject,
        through_menu,
        options.transport,
        options.fetch,
        uefi=options.firmware == "uefi",
        extra=options.kernel_arguments,
    )
    accel = acceleration.best() if options.accel == "auto" else Accel(options.accel)
    with _log(options.console) as printed, site.served(route, report.note) as where:
        machine = Machine(where.boot, where.firmware, accel, options.memory)
        watch = run.Watch(
            timeout=options.timeout,
            reached=lambda stage, seconds: report.note(f"{seconds:6.1f} s  {stage.value}"),
            printed=printed,
            screenshot=options.screenshot or "",
        )
        verdict = run.run(machine, watch, subject.image)
    if options.json:
        report.result(_facts(route, accel, options, verdict))
    else:
        for line in _told(route, verdict):
            report.say(line)
    return 0 if verdict.passed else 1


def _generation(store: Store, name: str, version: str | None) -> Generation:
    state = store.state(name)
    if not state.exists:
        raise LtspError(f"no image {printable(name)} is published", "ltsp info lists what there is")
    if version is not None:
        return state.existing(version)
    if state.current is None:
        raise LtspError(f"{name} has no version that clients boot", f"ltsp versions {name} lists what there is")
    return state.current


def _subject(generation: Generation) -> Subject:
    """Raises LtspError where clients could not boot it, whatever the way."""
    places, version = generation.places, generation.version
    if not generation.bootable:
        raise LtspError(f"version {version} of {places.name} has no kernel", f"type ltsp kernel {places.name}")
    if generation.image_id is None or generation.manifest.image is None:
        raise LtspError(f"version {version} of {places.name} has no image", f"make one: ltsp image {places.name}")
    if CLIENT not in generation.manifest.files:
        raise LtspError(f"version {version} of {places.name} has no client's initrd", f"ltsp kernel {places.name}")
    return Subject(
        places.name,
        version,
        places.base_dir,
        places.tftp_dir,
        os.path.relpath(generation.image, places.base_dir),
        generation.manifest.image.sha256,
        CLIENT,
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
