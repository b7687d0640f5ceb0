"""`ltsp image`: make squashfs images of sources and publish them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ltsp.build import disk_space, dry_run, plan, summary
from ltsp.build.after_publish import follow
from ltsp.build.batch import each
from ltsp.build.origin import other_origin
from ltsp.build.pipeline import Asked, build, check_rpi_image, conclude, for_raspberries, initrd
from ltsp.build.prepare import prepare
from ltsp.build.read_source import taken
from ltsp.build.request import NO_KERNEL, Order, order
from ltsp.errors import LtspError, UsageError
from ltsp.publish.manifest import Origin
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.hooks import Hooks
from ltsp.source.disk.disk_options import Wishes
from ltsp.source.find import find
from ltsp.source.location import lasting
from ltsp.source.names import name_of, names
from ltsp.source.source import Source
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import everything


def image(
    operands: Sequence[str],
    options: ImageOptions,
    ltsp: LtspOptions,
    commands: Hooks,
    conf: Conf,
    report: Report,
) -> int:
    """Do it for each image, and return the worst exit status. Lists and executables of the site are beside ltsp.conf.

    Raises UsageError before any work, and LtspError where there is but one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    asked_for = order(options, ltsp, commands, os.path.dirname(conf.path))
    for warning in asked_for.rules.warnings:
        report.warn(warning)
    found = _found(_arguments(operands, options, ltsp, report), options, ltsp, store, report)
    check_rpi_image(options.rpi_image, _names(found), store)
    results: list[Mapping[str, object]] = []

    def make(argument: str) -> int:
        asked = found[argument]
        if isinstance(asked, LtspError):
            raise asked
        if changed := _another_source(store, asked):
            report.warn(changed)
        if options.dry_run:
            results.append(_dry_run(asked_for, asked.source, conf, report))
            return 0
        built = build(asked_for, asked, report)
        summary.show(built, report)
        results.append(summary.facts(built))
        conclude(asked_for, built.source, report)
        return built.exit_status

    status = each(list(found), report, make)
    report.result({"images": results})
    if not options.dry_run:
        follow(ltsp, conf, options, report)
    return status


def _arguments(operands: Sequence[str], options: ImageOptions, ltsp: LtspOptions, report: Report) -> Sequence[str]:
    if operands:
        return list(dict.fromkeys(operands))
    every, warnings = names(ltsp.base_dir, all_images=options.all_images)
    for warning in warnings:
        report.warn(warning)
    return every


def _found(
    arguments: Sequence[str], options: ImageOptions, ltsp: LtspOptions, store: Store, report: Report
) -> dict[str, Asked | LtspError]:
    """The source of each argument, or why there is none.

    Raises UsageError, also where two sources would have one name.
    """
    found: dict[str, Asked | LtspError] = {}
    taken_by: dict[str, str] = {}
    made_from: dict[str, str] = {}

    def recorded(name: str) -> str:
        argument = _recorded(store, name)
        if argument and argument != name:
            report.note(f"{name} is an exported image: it is made anew from {printable(argument)}, as it was before")
            made_from[name] = argument
        return argument

    for argument in arguments:
        try:
            source = find(
                argument,
                ltsp.base_dir,
                name=options.name or "",
                leave_out=(ltsp.base_dir, ltsp.tftp_dir),
                recorded=recorded,
                recompress=options.recompress,
                disks=Wishes.of(options),
                snapshots=options.snapshot,
                own_rule="" if options.kernel_initrd == NO_KERNEL else options.kernel_initrd,
            )
        except UsageError:
            raise
        except LtspError as error:
            found[argument] = error
            continue
        other = taken_by.setdefault(source.name, argument)
        if other != argument:
            raise UsageError(
                f"{printable(other)} and {printable(argument)} would both be the image {source.name}",
                "make them one by one, with --name",
            )
        # An image that recorded its own name could not be made anew a second time.
        found[argument] = Asked(lasting(made_from.get(source.name, argument), ltsp.base_dir), source)
    return found


def _names(found: Mapping[str, Asked | LtspError]) -> Iterator[str]:
    """Of the images of the run. What was not found has its own error, and is not to have another."""
    for argument, asked in found.items():
        yield asked.source.name if isinstance(asked, Asked) else name_of(argument.partition(",")[0])


def _recorded(store: Store, name: str) -> str:
    """What an exported image was made from; nothing where that is not known."""
    current = store.current(name)
    return current.manifest.source.argument if current and current.manifest.origin is not Origin.FOREIGN else ""


def _another_source(store: Store, asked: Asked) -> str:
    """Said where the image was made from something else until now; empty where it was not, or that is not known."""
    name = asked.source.name
    before = other_origin(store, name, asked.argument)
    if not before:
        return ""
    return (
        f"the image {name} was made from {printable(before)} so far, and is now made from "
        f"{printable(asked.argument)}: give --name=OTHER to keep both"
    )


def _dry_run(asked_for: Order, source: Source, conf: Conf, report: Report) -> Mapping[str, object]:
    from ltsp.build import client_services  # noqa: PLC0415 -- a build does not need what clients are told

    faults = Faults(skip_unreadable=True)
    options = asked_for.options
    with taken(source, lambda: everything, options.lock_timeout, faults, report) as whole:
        asked_for = replace(asked_for, rules=asked_for.rules.following(whole))
        left, gone = dry_run.removed(whole, asked_for.rules)
        prepared = prepare(left, source.name, asked_for, faults, gone)
        firmware = for_raspberries(options, asked_for.store.base_dir, source.name, left)
        current = asked_for.store.current(source.name)
        client = initrd(prepared, source.name, replace(asked_for.client, must_boot=False), current, report)
        with report.step("estimating the space"):
            needed = disk_space.space(prepared, {**client.boot_files(prepared.kernel), **firmware})
        plan.show(source, asked_for.rules, prepared, needed, asked_for.store, report)
        client.tell(report)
        for line in disk_space.lacking(needed, asked_for.store):
            report.warn(line)
        for path, reason in faults.unreadable:
            report.warn(f"/{printable(path)} cannot be read: {reason}")
        dry_run.show(gone, prepared.cleaned, report)
        idle = client_services.idle_services(left, conf)
        client_services.show(idle, report)
        for command in asked_for.before:
            report.note(f"{printable(command.name)} is not run, and may change what goes in")
        return {
            "name": source.name,
            "source": source.description,
            "space_needed": {"base_dir": needed.image, "base_dir_at_least": needed.least, "tftp_dir": needed.boot},
            **plan.facts(source, prepared),
            **dry_run.facts(gone, prepared.cleaned),
            **client_services.facts(idle),
        }
