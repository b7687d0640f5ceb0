"""`ltsp image`: make squashfs images from sources and publish them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from ltsp.build import summary
from ltsp.build.batch import run_each, update_after_publish
from ltsp.build.client_initrd import NO_KERNEL
from ltsp.build.pipeline import RequestedImage, build, finish_build
from ltsp.build.raspberry import missing_rpi_image_warning
from ltsp.build.request import BuildRequest, find_changed_source, make_request
from ltsp.errors import LtspError, UsageError
from ltsp.publish.manifest import Origin
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.resolve import Hooks
from ltsp.source.find import find_source
from ltsp.source.location import make_source_absolute
from ltsp.source.names import derive_name, list_source_names
from ltsp.source.source import Source
from ltsp.source.spec import DiskOptions
from ltsp.tree.name import printable

_MOST_KEPT = 4
"""Sources whose processes wait for their turn."""


def image(
    operands: Sequence[str],
    options: ImageOptions,
    ltsp: LtspOptions,
    hooks: Hooks,
    conf: Conf,
    report: Report,
) -> int:
    """Make each image, and return the worst exit status. The site's lists and hooks are in the directory of ltsp.conf.

    Raises UsageError before any work, and LtspError if there is only one image.
    """
    request = make_request(options, ltsp, hooks, os.path.dirname(conf.path))
    for warning in request.rules.warnings:
        report.warn(warning)
    with ExitStack() as keep:
        found = _find_sources(_choose_arguments(operands, options, ltsp, report), request, report, keep)
        status = _make_images(found, request, conf, report)
    if not options.dry_run:
        update_after_publish(ltsp, conf, options, report)
    return status


def _make_images(
    found: Mapping[str, RequestedImage | LtspError], request: BuildRequest, conf: Conf, report: Report
) -> int:
    """The worst exit status."""
    options, store = request.options, request.store
    if missing := missing_rpi_image_warning(options.rpi_image, _image_names(found), store):
        report.warn(missing)
    results: list[Mapping[str, object]] = []

    def make(argument: str) -> int:
        requested = found[argument]
        if isinstance(requested, LtspError):
            raise requested
        if changed := _changed_source_warning(store, requested):
            report.warn(changed)
        if options.dry_run:
            from ltsp.build.dry_run import run_dry  # noqa: PLC0415 -- a build does not need it

            results.append(run_dry(request, requested.source, conf, report))
            return 0
        built = build(request, requested, report)
        summary.show(built, report)
        results.append(summary.to_json(built))
        finish_build(request, built.source, report)
        return built.exit_status

    status = run_each(list(found), report, make)
    report.result({"images": results})
    return status


def _choose_arguments(
    operands: Sequence[str], options: ImageOptions, ltsp: LtspOptions, report: Report
) -> Sequence[str]:
    if operands:
        return list(dict.fromkeys(operands))
    every, warnings = list_source_names(ltsp.base_dir, all_images=options.all_images)
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
    argument_by_name: dict[str, str] = {}
    recorded_sources: dict[str, str] = {}

    def find_recorded(name: str) -> str:
        argument = _find_recorded_source(request.store, name)
        if argument and argument != name:
            report.note(f"{name} is a published image: rebuilding it from its original source, {printable(argument)}")
            recorded_sources[name] = argument
        return argument

    for argument in arguments:
        try:
            source = _find_source(argument, request, find_recorded, keep if len(arguments) <= _MOST_KEPT else None)
        except UsageError:
            raise
        except LtspError as error:
            found[argument] = error
            continue
        other = argument_by_name.setdefault(source.name, argument)
        if other != argument:
            raise UsageError(
                f"{printable(other)} and {printable(argument)} would both become the image {source.name}",
                "build them one at a time, with --name",
            )
        # Recording the image's own name would make a second rebuild impossible.
        found[argument] = RequestedImage(
            make_source_absolute(recorded_sources.get(source.name, argument), request.ltsp.base_dir), source
        )
    return found


def _find_source(
    argument: str, request: BuildRequest, find_recorded: Callable[[str], str], keep: ExitStack | None
) -> Source:
    options, ltsp = request.options, request.ltsp
    return find_source(
        argument,
        ltsp.base_dir,
        name=options.name or "",
        excluded_directories=(ltsp.base_dir, ltsp.tftp_dir),
        find_recorded=find_recorded,
        recompress=options.recompress,
        disks=DiskOptions.of(options),
        snapshots=options.snapshot,
        user_rule="" if options.kernel_initrd == NO_KERNEL else options.kernel_initrd,
        keep=keep,
    )


def _image_names(found: Mapping[str, RequestedImage | LtspError]) -> Iterator[str]:
    """Of all images of the run, including those whose source was not found: that error is reported already."""
    for argument, requested in found.items():
        yield (
            requested.source.name if isinstance(requested, RequestedImage) else derive_name(argument.partition(",")[0])
        )


def _find_recorded_source(store: Store, name: str) -> str:
    """What a published image was made from; empty if unknown."""
    current = store.current(name)
    return current.manifest.source.argument if current and current.manifest.origin is not Origin.FOREIGN else ""


def _changed_source_warning(store: Store, requested: RequestedImage) -> str:
    """The warning that the image used to be made from another source; empty if it was not, or if that is unknown."""
    name = requested.source.name
    recorded_source = find_changed_source(store, name, requested.argument)
    if not recorded_source:
        return ""
    return (
        f"the image {name} was made from {printable(recorded_source)} before, and is now made from "
        f"{printable(requested.argument)}: give --name=OTHER to keep both"
    )
