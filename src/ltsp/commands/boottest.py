"""`ltsp boottest`: boot a published image in a virtual machine and report the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ltsp.boot.ipxe import UnwritableText, check_words
from ltsp.boottest import run, servers
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import Accelerator, VirtualMachine, choose_accelerator
from ltsp.boottest.servers import BootRoute
from ltsp.boottest.verdict import Verdict, format_server_logs
from ltsp.build.boot_gate import make_stage_callback, require_bootable
from ltsp.errors import LtspError, UsageError
from ltsp.publish.state import ImageState
from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import BootTestOptions
from ltsp.tree.name import printable

_MAX_CONSOLE_LINES = 12
"""Console lines shown after a failure; the JSON output has more."""


def boottest(name: str, options: BootTestOptions, ltsp: LtspOptions, report: Report) -> int:
    """Boot a version of an image, print the verdict, and return the exit status: 0 if the boot passed.

    Raises UsageError for kernel arguments that an iPXE script cannot contain, LtspError if the test cannot be run.
    """
    kernel_words = _check_kernel_arguments(options.kernel_arguments)
    if options.screenshot is not None:
        _check_writable(options.screenshot)
    state = Store(ltsp.base_dir, ltsp.tftp_dir).state(name)
    subject = require_bootable(_find_version(state, options.version), state.image)
    through_menu = options.version is None and subject.has_menu
    if options.version is None and not through_menu:
        report.note("no iPXE menu yet, so the version is booted without one; ltsp ipxe creates the menu")
    route = BootRoute(
        subject,
        through_menu,
        options.transport,
        options.fetch,
        uefi=options.firmware == "uefi",
        kernel_arguments=kernel_words,
    )
    accel = choose_accelerator() if options.accel == "auto" else Accelerator(options.accel)
    with _open_log(options.console) as write_output, servers.start_servers(route, report.note) as boot_servers:
        machine = VirtualMachine(boot_servers.boot, boot_servers.firmware, accel, options.memory)
        watch = run.WatchOptions(
            timeout=options.timeout,
            on_stage=make_stage_callback(report),
            on_output=write_output,
            screenshot=options.screenshot or "",
        )
        verdict = run.run_boot_test(machine, watch, subject.image, boot_servers.servers)
    if options.json:
        report.result(_verdict_facts(route, accel, options, verdict))
    else:
        for line in _verdict_lines(route, verdict):
            report.say(line)
    return 0 if verdict.passed else 1


def _check_kernel_arguments(text: str) -> str:
    try:
        return check_words(text)
    except UnwritableText as fault:
        raise UsageError(
            f"option --kernel-arguments: {printable(text)!r} {fault}, which an iPXE script cannot contain",
            "remove that character from --kernel-arguments",
        ) from None


def _check_writable(path: str) -> None:
    """Check before the boot, since the file is written only after it.

    Raises LtspError.
    """
    if os.path.isdir(path) or not os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        raise LtspError(f"cannot write {printable(path)}", "give a path in an existing directory")


def _find_version(state: ImageState, version: str | None) -> Version:
    name = state.paths.name
    if not state.exists:
        raise LtspError(f"no image {printable(name)} is published", "ltsp info lists the images")
    if version is not None:
        return state.require_version(version)
    if state.current is None:
        remedy = f"choose one with --version: ltsp versions {name}" if state.versions else f"run ltsp kernel {name}"
        raise LtspError(f"{name} has no current version", remedy)
    return state.current


@contextmanager
def _open_log(path: str | None) -> Iterator[Callable[[bytes, float], None]]:
    """Raises LtspError if the file cannot be written."""
    if path is None:
        yield lambda _data, _seconds: None
        return
    try:
        file = open(path, "wb")  # noqa: SIM115 -- closed below, and an error inside the block is not about the file
    except OSError as error:
        raise LtspError(f"cannot write {printable(path)}: {error.strerror}") from error
    with file:
        yield lambda data, _seconds: _write(file.write, data)


def _write(write: Callable[[bytes], int], data: bytes) -> None:
    write(data)


def _verdict_facts(
    route: BootRoute, accel: Accelerator, options: BootTestOptions, verdict: Verdict
) -> dict[str, object]:
    return {
        "name": route.subject.name,
        "version": route.subject.version,
        "menu": route.through_menu,
        "transport": route.transport,
        "fetch": route.fetch,
        "firmware": options.firmware,
        "accel": accel.value,
        "memory_mib": options.memory,
        **verdict.to_json(),
    }


def _verdict_lines(route: BootRoute, verdict: Verdict) -> Iterator[str]:
    name, version = route.subject.name, route.subject.version
    if verdict.passed:
        yield f"{name} {version} boots via {route.transport}"
    else:
        yield f"{name} {version} does not boot via {route.transport}: {verdict.cause}"
        if verdict.remedy:
            yield f"  what to do: {verdict.remedy}"
    yield "  " + ", ".join(
        f"{stage.value} {seconds:.1f} s" for stage, seconds in verdict.seconds.items() if stage is not BootStage.POWER
    )
    if verdict.guest:
        received = sum(verdict.guest.received.values())
        memory = units.format_size(verdict.guest.available << 10)
        yield f"  received {units.format_size(received)}, {memory} of memory left, systemd {verdict.guest.state}"
    if not verdict.passed:
        yield from (f"  | {line}" for line in verdict.tail[-_MAX_CONSOLE_LINES:])
        yield from (f"  {line}" for line in format_server_logs(verdict))
