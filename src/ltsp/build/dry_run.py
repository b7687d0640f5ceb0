"""`ltsp image --dry-run`: what a build would leave out and change, and what clients would not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from ltsp.build import disk_space, plan
from ltsp.build.exclusions import ExclusionRules
from ltsp.build.prepare import make_initrd, prepare_tree
from ltsp.build.raspberry import find_raspberry_firmware
from ltsp.build.read_source import open_tree
from ltsp.build.request import BuildRequest
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.services import ServicePolicy, find_service, has_unit
from ltsp.initrd.site.settings import build_common_layer
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.client_sections import read_client_settings
from ltsp.settings.conf import Conf
from ltsp.source.source import Source
from ltsp.transform.cleanup import CleanedTree
from ltsp.transform.survey import Removal, RemovedPaths
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import ObservedSelection, combine_selections, select_all
from ltsp.tree.tree import Tree

_MOST_PATHS = 3
"""Paths of a rule that a line names; --json lists all."""
_MOST_UNITS = 4
"""Units of a service that a line names; --json lists all."""


@dataclass(frozen=True, slots=True)
class IdleService:
    """A service of an image that clients will not run, by the default list or by `[clients]` of ltsp.conf.

    Sections of single clients may differ; `ltsp initrd --dry-run` shows those.
    """

    units: tuple[str, ...]
    """The units of one service that are in the image."""
    how: str
    """`masked` (cannot be started) or `disabled`."""
    reason: str


def run_dry(request: BuildRequest, source: Source, conf: Conf, report: Report) -> Mapping[str, object]:
    """Read a source as a build would, and report what the build would do; nothing is written."""
    faults = Faults(skip_unreadable=True)
    options = request.options
    with open_tree(source, lambda: select_all, options.lock_timeout, faults, report) as tree:
        request = replace(request, rules=request.rules.follow_links(tree))
        remaining, removed = _apply_rules(tree, request.rules)
        prepared = prepare_tree(remaining, source.name, request, faults, removed)
        firmware = find_raspberry_firmware(options, request.store.base_dir, source.name, remaining)
        current = request.store.current(source.name)
        client = make_initrd(prepared, source.name, replace(request.client, must_boot=False), current, report)
        with report.step("estimating the space"):
            boot_files = {**client.collect_files(prepared.kernel), **firmware}
            needed = disk_space.estimate_space(prepared, boot_files, request.parameters)
        plan.show(source, request.rules, prepared, needed, request.store, report)
        client.report_to(report)
        for line in disk_space.find_shortages(needed, request.store):
            report.warn(line)
        for path, reason in faults.unreadable:
            report.warn(f"cannot read /{printable(path)}: {reason}")
        _show_rules(removed, prepared.cleaned, report)
        idle = find_idle_services(remaining, conf)
        _show_services(idle, report)
        for command in request.commands_before:
            report.note(f"{printable(command.name)} is not run in a dry run, and may change the image")
        return {
            "name": source.name,
            "source": source.description,
            "space_needed": {"base_dir": needed.image, "base_dir_at_least": needed.minimum, "tftp_dir": needed.boot},
            **plan.to_json(source, prepared),
            **_rule_facts(removed, prepared.cleaned),
            **_service_facts(idle),
        }


def _apply_rules(tree: Tree, rules: ExclusionRules) -> tuple[Tree, list[Removal]]:
    """Apply the rules to a complete tree: the rest, and what each rule leaves out, largest first."""
    selection = combine_selections(rules.selection, rules.exact_selection(tree))
    removed = RemovedPaths()
    remaining = tree.select(ObservedSelection(selection, removed.add))
    return remaining, sorted(removed.group_by_rule(rules.find_rule), key=lambda one: (-one.bytes, one.rule))


def _show_rules(removed: Sequence[Removal], cleaned: CleanedTree, report: Report) -> None:
    rows = [
        (
            printable(one.rule),
            units.format_count(one.files, "file"),
            units.format_size(one.bytes),
            _list_first(one.paths),
        )
        for one in removed
    ]
    report.table(("left out by", "files", "size", "paths"), rows)
    rows = [
        (
            printable(step.rule),
            units.format_count(len(step.paths), "file"),
            units.format_size(step.bytes),
            _list_first(step.paths),
        )
        for step in cleaned.steps
    ]
    if rows:
        report.table(("rewritten by", "files", "smaller by", "paths"), rows)


def _rule_facts(removed: Sequence[Removal], cleaned: CleanedTree) -> Mapping[str, object]:
    """The same as data, with every path."""
    return {
        "left_out": [
            {"rule": one.rule, "files": one.files, "bytes": one.bytes, "paths": list(one.paths)} for one in removed
        ],
        "rewritten": [{"rule": step.rule, "bytes": step.bytes, "paths": list(step.paths)} for step in cleaned.steps],
    }


def _list_first(names: Sequence[str], most: int = _MOST_PATHS) -> str:
    shown = ", ".join(map(printable, names[:most]))
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown


def find_idle_services(tree: Tree, conf: Conf) -> list[IdleService]:
    """In the order of the list, then what ltsp.conf adds. `ltsp initrd` reports faults of ltsp.conf."""
    layer = build_common_layer(read_client_settings(conf).common.settings, Accounts(), [], [], has_autologin=False)
    return [
        *_group_by_service(tree, layer.unneeded, "masked"),
        *_group_by_service(tree, layer.disable, "disabled"),
        *_group_by_service(tree, layer.mask, "masked"),
    ]


def _group_by_service(tree: Tree, listed: Iterable[str], how: str) -> Iterator[IdleService]:
    groups: dict[str, list[str]] = {}
    for unit in listed:
        if has_unit(tree, unit):
            service = find_service(unit)
            groups.setdefault(service.units[0] if service else unit, []).append(unit)
    for first, found in groups.items():
        service = find_service(first)
        by_default = service is not None and service.policy in {ServicePolicy.MASKED, ServicePolicy.DISABLED}
        yield IdleService(tuple(found), how, service.reason if service and by_default else "set in ltsp.conf")


def _show_services(idle: Sequence[IdleService], report: Report) -> None:
    rows = [(_list_first(one.units, _MOST_UNITS), one.how, one.reason) for one in idle]
    if rows:
        report.table(("disabled on clients", "how", "reason"), rows)


def _service_facts(idle: Sequence[IdleService]) -> Mapping[str, object]:
    """The same as data, with every unit."""
    return {"clients_do_not_run": [asdict(one) for one in idle]}
