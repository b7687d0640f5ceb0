"""The services that clients do not run: the rows of lists/client.services.

It is fine if an image lacks a unit. A masked unit cannot be started at all; a disabled one is not started at boot.
Timers and sockets go with their services: they would fail if only the service were masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources
from typing import Final

from ltsp.initrd.site.quoting import has_unit_suffix
from ltsp.tree.node import Directory, Symlink
from ltsp.tree.tree import Tree

UNIT_DIRECTORIES: Final = ("etc", "usr/local/lib", "usr/lib", "lib")
"""Parents of `systemd/system`, in order of precedence. systemd.unit(5)"""


class ServicePolicy(Enum):
    MASKED = "mask"
    DISABLED = "disable"
    STAYS = "stay"
    SESSION = "session"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A row of the list."""

    policy: ServicePolicy
    reason: str
    units: tuple[str, ...]
    """All units of one service, including those that start it: keeping only some of them would fail. For sessions,
    names without a suffix; for cron, paths.
    """


def list_units_by_policy(policy: ServicePolicy) -> tuple[str, ...]:
    return tuple(unit for service in read_services() if service.policy is policy for unit in service.units)


def find_service(word: str) -> ServiceRow | None:
    """The row with this unit, or with a unit of this name without its suffix."""
    return _index_by_unit().get(word)


def units_to_keep(words: Iterable[str]) -> tuple[str, ...]:
    """The units of KEEP_SYSTEM_SERVICES: the whole row of a word; for another name without a suffix, its service,
    timer, socket, path and instances.
    """
    kinds = (".service", ".timer", ".socket", ".path", "@.service")
    return tuple(
        unit
        for word in words
        for unit in _units_of(word, [word] if has_unit_suffix(word) else [word + k for k in kinds])
    )


def units_to_disable(words: Iterable[str]) -> tuple[str, ...]:
    """The units of MASK_SYSTEM_SERVICES and DISABLE_SYSTEM_SERVICES: the whole row of a word, else that unit; without a
    suffix it is a service.
    """
    return tuple(
        unit for word in words for unit in _units_of(word, [word if has_unit_suffix(word) else f"{word}.service"])
    )


def _units_of(word: str, fallback: Iterable[str]) -> Iterable[str]:
    service = find_service(word)
    return service.units if service is not None else fallback


def has_unit(tree: Tree, unit: str) -> bool:
    """Whether an image has a unit that clients could run: a file, or an init.d script for which systemd generates one.

    systemd.unit(5), systemd-sysv-generator(8)
    """
    for parent in UNIT_DIRECTORIES:
        directory = tree.follow(f"{parent}/systemd/system")
        node = directory.entries.get(unit) if isinstance(directory, Directory) else None
        if node is not None:
            return not (isinstance(node, Symlink) and node.target == "/dev/null")
    return unit.endswith(".service") and tree.follow(f"etc/init.d/{unit.removesuffix('.service')}") is not None


@cache
def read_services() -> tuple[ServiceRow, ...]:
    return tuple(_parse_rows(resources.files("ltsp.initrd").joinpath("lists/client.services").read_text("utf-8")))


@cache
def _index_by_unit() -> dict[str, ServiceRow]:
    found: dict[str, ServiceRow] = {}
    for service in read_services():
        if service.policy in {ServicePolicy.MASKED, ServicePolicy.DISABLED, ServicePolicy.STAYS}:
            for unit in service.units:
                found.setdefault(unit, service)
                found.setdefault(unit.rpartition(".")[0].rstrip("@"), service)
    return found


def _parse_rows(text: str) -> Iterator[ServiceRow]:
    reason = ""
    row: list[str] = []
    for line in [*text.splitlines(), ""]:
        if row and not line.startswith(" "):
            yield _parse_row(row, reason)
            row = []
        if line.startswith("="):
            reason = line[1:].strip()
        else:
            row.extend(line.partition("#")[0].split())


def _parse_row(row: list[str], reason: str) -> ServiceRow:
    policy, *units = row
    if policy == ServicePolicy.CRON.value:
        directory_count = next(n for n, word in enumerate(units) if word.endswith(":")) + 1
        directories = [word.removesuffix(":") for word in units[:directory_count]]
        units = [f"{directory}/{job}" for directory in directories for job in units[directory_count:]]
    return ServiceRow(ServicePolicy(policy), reason, tuple(units))
