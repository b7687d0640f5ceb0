"""Which services of an image its clients will not run: by the list for all clients, and by `[clients]` of ltsp.conf.

Sections of single clients may say otherwise; `ltsp initrd --dry-run` has those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.services import Fate, is_in, service_of
from ltsp.initrd.site.settings import common
from ltsp.report.report import Report
from ltsp.settings.client_sections import client_settings
from ltsp.settings.conf_text import Conf
from ltsp.tree.name import printable
from ltsp.tree.tree import Tree

_SHOWN = 4
"""Units of a service that a line names; --json has all of them."""


@dataclass(frozen=True, slots=True)
class IdleService:
    units: tuple[str, ...]
    """Those of one service that the image has."""
    how: str
    """`masked`, so that they cannot be started, or `disabled`."""
    reason: str


def idle_services(tree: Tree, conf: Conf) -> list[IdleService]:
    """In the order of the list, then what ltsp.conf adds. Faults of ltsp.conf are for `ltsp initrd` to report."""
    layer = common(client_settings(conf).common.settings, Accounts(), [], [], logs_in=False)
    return [
        *_grouped(tree, layer.unneeded, "masked"),
        *_grouped(tree, layer.disable, "disabled"),
        *_grouped(tree, layer.mask, "masked"),
    ]


def _grouped(tree: Tree, units: Iterable[str], how: str) -> Iterator[IdleService]:
    groups: dict[str, list[str]] = {}
    for unit in units:
        if is_in(tree, unit):
            service = service_of(unit)
            groups.setdefault(service.units[0] if service else unit, []).append(unit)
    for first, found in groups.items():
        service = service_of(first)
        by_default = service is not None and service.fate in {Fate.MASKED, Fate.DISABLED}
        yield IdleService(tuple(found), how, service.reason if service and by_default else "ltsp.conf says so")


def show(idle: Sequence[IdleService], report: Report) -> None:
    rows = [(_named(one.units), one.how, one.reason) for one in idle]
    if rows:
        report.table(("clients do not run", "how", "reason"), rows)


def facts(idle: Sequence[IdleService]) -> Mapping[str, object]:
    """The same as data, with every unit."""
    return {"clients_do_not_run": [asdict(one) for one in idle]}


def _named(units: Sequence[str]) -> str:
    shown = ", ".join(map(printable, units[:_SHOWN]))
    return f"{shown}, and {len(units) - _SHOWN} more" if len(units) > _SHOWN else shown
