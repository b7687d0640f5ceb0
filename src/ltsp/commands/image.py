"""`ltsp image`: make squashfs images from sources and publish them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ltsp.build import disk_space, dry_run, plan, summary
from ltsp.build.batch import run_each, update_after_publish
from ltsp.build.client_initrd import NO_KERNEL
from ltsp.build.pipeline import RequestedImage, build, finish_build, make_initrd
from ltsp.build.prepare import prepare
from ltsp.build.raspberry import missing_rpi_image_warning, raspberry_firmware
from ltsp.build.read_source import open_tree
from ltsp.build.request import BuildRequest, make_request, other_origin
from ltsp.errors import LtspError, UsageError
from ltsp.publish.manifest import Origin
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.resolve import Hooks
from ltsp.source.find import find_source
from ltsp.source.location import make_source_absolute
from ltsp.source.names import derive_name, list_names
from ltsp.source.source import Source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import select_all

_MOST_KEPT = 4
"""Sources whose processes wait for their turn."""


def image(
    operands: Sequence[str],
    options: ImageOptions,
    ltsp: LtspOptions,
    commands: Hooks,
    conf: Conf,
    report: Report,
) -> int:
    """Make each image, and return the worst exit status. The site's lists and hooks are in the directory of ltsp.conf.

    Raises UsageError before any work, and LtspError if there is only one image.
    """
    request = make_request(options, ltsp, commands, os.path.dirname(conf.path))
    for warning in request.rules.warnings:
        report.warn(warning)
    with ExitStack() as keep:
        found = _find_sources(_arguments(operands, options, ltsp, report), request, report, keep)
        status = _make_images(found, request, conf, report)
    if not options.dry_run:
        update_after_publish(ltsp, conf, options, report)
    return status


def _make_images(
    found: Mapping[str, RequestedImage | LtspError], request: BuildRequest, conf: Conf, report: Report
) -> int:
    """The worst exit status."""
    options, store = request.options, request.store
    if missing := missing_rpi_image_warning(options.rpi_image, _names(found), store):
        report.warn(missing)
    results: list[Mapping[str, object]] = []

    def make(argument: str) -> int:
        requested = found[argument]
        if isinstance(requested, LtspError):
            raise requested
        if changed := _changed_source_warning(store, requested):
            report.warn(changed)
        if options.dry_run:
            results.append(_dry_run(request, requested.source, conf, report))
            return 0
        built = build(request, requested, report)
        summary.show(built, report)
        results.append(summary.facts(built))
        finish_build(request, built.source, report)
        return built.exit_status

    status = run_each(list(found), report, make)
    report.result({"images": results})
    return status


def _arguments(operands: Sequence[str], options: ImageOptions, ltsp: LtspOptions, report: Report) -> Sequence[str]:
    if operands:
        return list(dict.fromkeys(operands))
    every, warnings = list_names(ltsp.base_dir, all_images=options.all_images)
    for warning in warnings:
        report.warn(warning)
    return every


def _find_sources(
    arguments: Sequence[str], request: BuildRequest, report: Report, keep: ExitStack
) -> dict[str, RequestedImage | LtspError]:
    """The source of each argument, or the error that finding it raised.

    `keep` holds the processes that read them, unless these would be many: each takes 35 MB.
    Raises UsageError, also if two sources would have the same name.
    """
    found: dict[str, RequestedImage | LtspError] = {}
    taken_by: dict[str, str] = {}
    made_from: dict[str, str] = {}

    def recorded(name: str) -> str:
        argument = _recorded_source(request.store, name)
        if argument and argument != name:
            report.note(f"{name} is an exported image: rebuilding it from its original source, {printable(argument)}")
            made_from[name] = argument
        return argument

    for argument in arguments:
        try:
            source = _find_source(argument, request, recorded, keep if len(arguments) <= _MOST_KEPT else None)
        except UsageError:
            raise
        except LtspError as error:
            found[argument] = error
            continue
        other = taken_by.setdefault(source.name, argument)
        if other != argument:
            raise UsageError(
                f"{printable(other)} and {printable(argument)} would both become the image {source.name}",
                "build them one at a time, with --name",
            )
        # Recording the image's own name would make a second rebuild impossible.
        found[argument] = RequestedImage(
            make_source_absolute(made_from.get(source.name, argument), request.ltsp.base_dir), source
        )
    return found


def _find_source(
    argument: str, request: BuildRequest, recorded: Callable[[str], str], keep: ExitStack | None
) -> Source:
    options, ltsp = request.options, request.ltsp
    return find_source(
        argument,
        ltsp.base_dir,
        name=options.name or "",
        leave_out=(ltsp.base_dir, ltsp.tftp_dir),
        recorded=recorded,
        recompress=options.recompress,
        disks=DiskOptions.of(options),
        snapshots=options.snapshot,
        own_rule="" if options.kernel_initrd == NO_KERNEL else options.kernel_initrd,
        keep=keep,
    )


def _names(found: Mapping[str, RequestedImage | LtspError]) -> Iterator[str]:
    """Of all images of the run, including those whose source was not found: that error is reported already."""
    for argument, requested in found.items():
        yield (
            requested.source.name if isinstance(requested, RequestedImage) else derive_name(argument.partition(",")[0])
        )


def _recorded_source(store: Store, name: str) -> str:
    """What an exported image was made from; empty if unknown."""
    current = store.current(name)
    return current.manifest.source.argument if current and current.manifest.origin is not Origin.FOREIGN else ""


def _changed_source_warning(store: Store, requested: RequestedImage) -> str:
    """The warning that the image used to be made from another source; empty if it was not, or if that is unknown."""
    name = requested.source.name
    before = other_origin(store, name, requested.argument)
    if not before:
        return ""
    return (
        f"the image {name} was made from {printable(before)} before, and is now made from "
        f"{printable(requested.argument)}: give --name=OTHER to keep both"
    )


def _dry_run(request: BuildRequest, source: Source, conf: Conf, report: Report) -> Mapping[str, object]:
    from ltsp.build import client_services  # noqa: PLC0415 -- a build does not need it

    faults = Faults(skip_unreadable=True)
    options = request.options
    with open_tree(source, lambda: select_all, options.lock_timeout, faults, report) as whole:
        request = replace(request, rules=request.rules.follow_links(whole))
        left, gone = dry_run.apply_rules(whole, request.rules)
        prepared = prepare(left, source.name, request, faults, gone)
        firmware = raspberry_firmware(options, request.store.base_dir, source.name, left)
        current = request.store.current(source.name)
        client = make_initrd(prepared, source.name, replace(request.client, must_boot=False), current, report)
        with report.step("estimating the space"):
            boot_files = {**client.with_kernel(prepared.kernel), **firmware}
            needed = disk_space.estimate_space(prepared, boot_files, exact=not request.parameters.unknown)
        plan.show(source, request.rules, prepared, needed, request.store, report)
        client.report_to(report)
        for line in disk_space.shortages(needed, request.store):
            report.warn(line)
        for path, reason in faults.unreadable:
            report.warn(f"cannot read /{printable(path)}: {reason}")
        dry_run.show(gone, prepared.cleaned, report)
        idle = client_services.idle_services(left, conf)
        client_services.show(idle, report)
        for command in request.before:
            report.note(f"{printable(command.name)} is not run in a dry run, and may change the image")
        return {
            "name": source.name,
            "source": source.description,
            "space_needed": {"base_dir": needed.image, "base_dir_at_least": needed.least, "tftp_dir": needed.boot},
            **plan.facts(source, prepared),
            **dry_run.facts(gone, prepared.cleaned),
            **client_services.facts(idle),
        }
