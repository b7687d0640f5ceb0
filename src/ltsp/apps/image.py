"""`ltsp image`: make squashfs images of sources and publish them, or go back to the version before."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ltsp.apps import dry_run, hooks, plan, summary
from ltsp.apps.build import Asked, Order, build, conclude, group_id, taken
from ltsp.apps.each import each
from ltsp.apps.kernel import publish_found
from ltsp.apps.preparation import NO_KERNEL, prepare
from ltsp.apps.report import Report
from ltsp.apps.rules import rules
from ltsp.boot.kernel import Rule
from ltsp.errors import LtspError, UsageError
from ltsp.publish.contents import Published, Unchanged
from ltsp.publish.manifest import Origin
from ltsp.publish.retention import Retention
from ltsp.publish.store import Store
from ltsp.settings.applets import ImageOptions, LtspOptions
from ltsp.settings.hooks import Hooks
from ltsp.source.find import find
from ltsp.source.names import name_of, names
from ltsp.source.source import Source
from ltsp.squashfs import parameters
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import everything


def image(
    operands: Sequence[str],
    options: ImageOptions,
    ltsp: LtspOptions,
    commands: Hooks,
    conf_directory: str,
    report: Report,
) -> int:
    """Do it for each image, and return the worst exit status. Lists and executables of the site lie beside ltsp.conf.

    Raises UsageError before any work, and LtspError where there is but one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    if options.revert:
        return _revert_all(_reverted(operands, options, store), options, ltsp, store, report)
    order = _order(options, ltsp, commands, conf_directory)
    for warning in order.rules.warnings:
        report.warn(warning)
    found = _found(_arguments(operands, options, ltsp, report), options, ltsp, store, report)
    results: list[Mapping[str, object]] = []

    def make(argument: str) -> int:
        asked = found[argument]
        if isinstance(asked, LtspError):
            raise asked
        if options.dry_run:
            results.append(_dry_run(order, asked.source, report))
            return 0
        built = build(order, asked, report)
        summary.show(built, report)
        results.append(summary.facts(built))
        conclude(order, built.source, report)
        return built.exit_status

    status = each(list(found), report, make)
    report.result({"images": results})
    return status


def _order(options: ImageOptions, ltsp: LtspOptions, commands: Hooks, conf_directory: str) -> Order:
    asked = parameters.parse(options.mksquashfs_params)
    if asked.unknown and options.engine == "own":
        raise UsageError(
            f"the built-in engine does not know {printable(' '.join(asked.unknown))}", "leave out --engine=own"
        )
    if options.verify and (asked.unknown or options.engine == "mksquashfs"):
        raise UsageError("--verify compares what the built-in engine wrote, and mksquashfs is asked for")
    group_id(options.image_group)
    if options.kernel_initrd not in ("", NO_KERNEL):
        Rule.parse(options.kernel_initrd)
    return Order(
        options,
        asked,
        rules(options, asked.excludes, conf_directory),
        hooks.before(commands, os.path.join(conf_directory, "image.d")),
        hooks.after(commands),
        ltsp,
        Store(ltsp.base_dir, ltsp.tftp_dir),
        _source_date_epoch(),
    )


def _source_date_epoch() -> int | None:
    """The time that all that is made from one state of things shall have. reproducible-builds.org, SOURCE_DATE_EPOCH"""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 1 << 32):
        raise UsageError(f"environment: SOURCE_DATE_EPOCH: {text!a} is no number of seconds below 2^32")
    return int(text)


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
        found[argument] = Asked(made_from.get(source.name, argument), source)
    return found


def _recorded(store: Store, name: str) -> str:
    """What an exported image was made from; nothing where that is not known."""
    current = store.current(name)
    return current.manifest.source.argument if current and current.manifest.origin is not Origin.FOREIGN else ""


def _dry_run(order: Order, source: Source, report: Report) -> Mapping[str, object]:
    faults = Faults(skip_unreadable=True)
    options = order.options
    with taken(source, everything, options.lock_timeout, faults, report) as whole:
        left, gone = dry_run.removed(whole, order.rules)
        prepared = prepare(left, source.name, options, order.parameters, order.rules, order.time, faults)
        needed = plan.expected_bytes(prepared, order.store.current(source.name))
        plan.show(source, order.rules, prepared, needed, order.store, report)
        for path, reason in faults.unreadable:
            report.warn(f"/{printable(path)} cannot be read: {reason}")
        dry_run.show(gone, prepared.cleaned, report)
        return {
            "name": source.name,
            "source": source.description,
            "space_needed": needed,
            **plan.facts(source, prepared),
            **dry_run.facts(gone, prepared.cleaned),
        }


def _reverted(operands: Sequence[str], options: ImageOptions, store: Store) -> Sequence[str]:
    """The names of the images to go back with; a source is not needed for it."""
    if options.name:
        return [options.name]
    if operands:
        return [name_of(operand) if operand.startswith(("/", ".")) else operand for operand in operands]
    every = store.names()
    if len(every) != 1:
        raise UsageError(f"which image to go back with: there are {', '.join(every) or 'none'}", "ltsp image -r NAME")
    return every


def _revert_all(images: Sequence[str], options: ImageOptions, ltsp: LtspOptions, store: Store, report: Report) -> int:
    results: list[Mapping[str, object]] = []

    def revert(name: str) -> int:
        outcome = _revert(name, options, ltsp, store, report)
        version, reverted = outcome.generation.version, isinstance(outcome, Published)
        if reverted:
            report.say(f"reverted  {name}: clients now boot version {version}")
        else:
            report.say(f"unchanged {name}: version {version} is current already")
        results.append({"name": name, "reverted": reverted, "version": version})
        return 0

    status = each(images, report, revert)
    report.result({"images": results})
    return status


def _revert(name: str, options: ImageOptions, ltsp: LtspOptions, store: Store, report: Report) -> Published | Unchanged:
    with store.locked(name, options.wait) as held:
        before = held.before()
        if before.bootable or before.manifest.origin is not Origin.FOREIGN:
            return held.revert(Retention(options.keep_versions, options.keep_days))
        # What another LTSP left as NAME.img.old has its kernel inside. A link leads somewhere only under that name.
        path = held.places.old if before.is_image_of(held.state().old) else before.image
        source = find(path, ltsp.base_dir, name=name)
        return publish_found(held, source, path, options, report, of=before)[0]
