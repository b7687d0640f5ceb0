"""Which services of an image clients will not run: by the default list, and by `[clients]` of ltsp.conf.

Sections of single clients may differ; `ltsp initrd --dry-run` shows those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.services import ServicePolicy, find_service, has_unit
from ltsp.initrd.site.settings import build_common_layer
from ltsp.report.report import Report
from ltsp.settings.client_sections import client_settings
from ltsp.settings.conf_text import Conf
from ltsp.tree.name import printable
from ltsp.tree.tree import Tree

_MOST_SHOWN = 4
"""Units of a service that a line names; --json lists all."""


@dataclass(frozen=True, slots=True)
class IdleService:
    units: tuple[str, ...]
    """The units of one service that are in the image."""
    how: str
    """`masked` (cannot be started) or `disabled`."""
    reason: str


def idle_services(tree: Tree, conf: Conf) -> list[IdleService]:
    """In the order of the list, then what ltsp.conf adds. `ltsp initrd` reports faults of ltsp.conf."""
    layer = build_common_layer(client_settings(conf).common.settings, Accounts(), [], [], logs_in=False)
    return [
        *_group_by_service(tree, layer.unneeded, "masked"),
        *_group_by_service(tree, layer.disable, "disabled"),
        *_group_by_service(tree, layer.mask, "masked"),
    ]


def _group_by_service(tree: Tree, units: Iterable[str], how: str) -> Iterator[IdleService]:
    groups: dict[str, list[str]] = {}
    for unit in units:
        if has_unit(tree, unit):
            service = find_service(unit)
            groups.setdefault(service.units[0] if service else unit, []).append(unit)
    for first, found in groups.items():
        service = find_service(first)
        by_default = service is not None and service.policy in {ServicePolicy.MASKED, ServicePolicy.DISABLED}
        yield IdleService(tuple(found), how, service.reason if service and by_default else "set in ltsp.conf")


def show(idle: Sequence[IdleService], report: Report) -> None:
    rows = [(_list_units(one.units), one.how, one.reason) for one in idle]
    if rows:
        report.table(("disabled on clients", "how", "reason"), rows)


def facts(idle: Sequence[IdleService]) -> Mapping[str, object]:
    """The same as data, with every unit."""
    return {"clients_do_not_run": [asdict(one) for one in idle]}


def _list_units(units: Sequence[str]) -> str:
    shown = ", ".join(map(printable, units[:_MOST_SHOWN]))
    return f"{shown}, and {len(units) - _MOST_SHOWN} more" if len(units) > _MOST_SHOWN else shown
