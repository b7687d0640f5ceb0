"""The result of a boot test: whether the client booted, how far and how fast, and why not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from ltsp.boottest.console import BootProblem, BootStage, Console
from ltsp.errors import FormatError

_CLIENT_OVERLAY = ("ltsp", "overlay")
"""Source and type of the root that the client's initrd mounts."""


@dataclass(frozen=True, slots=True)
class GuestReport:
    """The booted system's report."""

    source: str
    fstype: str
    """Source and type of the mount at `/`."""
    root: str
    """The URL from which the client's initrd got the image."""
    state: str
    """`running`, `degraded` and so on. systemctl(1), is-system-running"""
    failed: tuple[str, ...]
    """Units."""
    cmdline: str
    received: Mapping[str, int]
    """Bytes by network interface since its driver was loaded, without those that the firmware fetched."""
    available: int
    """KiB of memory available to programs. proc(5), MemAvailable"""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises FormatError if the line is incomplete or not a report."""
        try:
            record = json.loads(text)
            # A name that is missing or unknown is a KeyError.
            fields = {name: _check_type(record[name], _FIELD_TYPES[name]) for name in {*record, *_FIELD_TYPES}}
            received = {name: int(_check_type(count, int)) for name, count in fields["received"].items()}
            failed = tuple(str(_check_type(unit, str)) for unit in fields["failed"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(
                "the booted system's report is damaged", "other output interrupted it on the console; try again"
            ) from error
        return cls(**{**fields, "received": received, "failed": failed})


_FIELD_TYPES: dict[str, type] = {
    "source": str,
    "fstype": str,
    "root": str,
    "state": str,
    "failed": list,
    "cmdline": str,
    "received": dict,
    "available": int,
}


def _check_type(value: Any, kind: type) -> Any:
    # Not isinstance: true is an int.
    if type(value) is not kind:
        raise TypeError(kind)
    return value


@dataclass(frozen=True, slots=True)
class Verdict:
    passed: bool
    cause: str
    """Why it did not pass, in one line; empty if it passed."""
    remedy: str
    stage: BootStage
    """The last stage that was reached."""
    seconds: Mapping[BootStage, float]
    """From power-on to each stage that was reached."""
    guest: GuestReport | None
    tail: tuple[str, ...]
    """The console's last lines, safe to print."""
    servers: Mapping[str, tuple[str, ...]]
    """The last lines of each server's log, by its name, safe to print."""

    @classmethod
    def of(
        cls, console: Console, stop_reason: str, image: str = "", servers: Mapping[str, tuple[str, ...]] | None = None
    ) -> Self:
        """The verdict on a console. `stop_reason` says why reading stopped: `not finished after 180 seconds`.

        `image` is what the client should have booted, as in ltsp.image=; empty for any.
        """
        guest = None
        try:
            guest = GuestReport.parse(console.report) if console.report is not None else None
            problem = _find_guest_problem(guest, image) if guest else _find_console_problem(console, stop_reason)
        except FormatError as error:
            problem = BootProblem(error.message, error.hint)
        return cls(
            passed=problem is None,
            cause=problem.cause if problem else "",
            remedy=problem.remedy if problem else "",
            stage=console.stage,
            seconds=dict(console.seconds),
            guest=guest,
            tail=console.tail,
            servers=servers or {},
        )

    def to_json(self) -> dict[str, object]:
        """The verdict as JSON. Stages are named as in `BootStage`, in lower case."""
        guest = self.guest
        return {
            "passed": self.passed,
            "cause": self.cause or None,
            "remedy": self.remedy or None,
            "stage": self.stage.name.lower(),
            "seconds": {stage.name.lower(): seconds for stage, seconds in self.seconds.items()},
            "guest": guest
            and {
                "root": {"source": guest.source, "fstype": guest.fstype, "url": guest.root},
                "state": guest.state,
                "failed": list(guest.failed),
                "cmdline": guest.cmdline,
                "received": dict(guest.received),
                "available_kib": guest.available,
            },
            "tail": list(self.tail),
            "servers": {name: list(lines) for name, lines in self.servers.items()},
        }


def format_server_logs(verdict: Verdict) -> Iterator[str]:
    """The logs of the servers, for people."""
    for name, lines in verdict.servers.items():
        if lines:
            yield f"log of {name}:"
            yield from (f"| {line}" for line in lines)


def _find_guest_problem(guest: GuestReport, image: str) -> BootProblem | None:
    if (guest.source, guest.fstype) != _CLIENT_OVERLAY:
        return BootProblem(
            f"the root is {guest.fstype} from {guest.source}, not the client's overlay",
            "boot with rdinit=/ltsp/init, or check what the image's own initrd did",
        )
    if image and f"ltsp.image={image}" not in guest.cmdline.split():
        return BootProblem(
            f"the client booted another image, not {image}", "the menu is older than the image: run ltsp ipxe"
        )
    if guest.failed:
        return BootProblem(
            f"units failed: {', '.join(guest.failed)}",
            "find the reason on a client with journalctl -b -u UNIT, or mask them with MASK_SYSTEM_SERVICES",
        )
    if guest.state != "running":
        return BootProblem(f"systemd reports the state {guest.state}, not running", "see the console's last lines")
    return None


def _find_console_problem(console: Console, stop_reason: str) -> BootProblem:
    found = console.problem
    if found is None:
        cause = f"{stop_reason}; last stage: {console.stage.value}"
        found = BootProblem(cause, "see the console's last lines, or allow more time with --timeout")
    if console.clue:
        # What went wrong first explains the rest.
        return BootProblem(f"{console.clue.cause} ({found.cause})", console.clue.remedy or found.remedy)
    return found
