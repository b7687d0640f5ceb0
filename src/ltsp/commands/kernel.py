"""`ltsp kernel`: publish kernel and initrd of a source again, with the image that is published already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ltsp.boot.kernel_rules import Rule
from ltsp.build.after_publish import follow
from ltsp.build.batch import each
from ltsp.build.client_initrd import Wanted
from ltsp.build.leftovers import let_go
from ltsp.build.origin import other_origin
from ltsp.build.pipeline import check_rpi_image, link_for_raspberries
from ltsp.build.publish_kernel import publish_found
from ltsp.build.request import NO_KERNEL
from ltsp.errors import UsageError
from ltsp.publish.contents import Published, Unchanged
from ltsp.publish.generation import Generation
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import KernelOptions, LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.source.disk.disk_options import Wishes
from ltsp.source.find import find
from ltsp.source.live.live_source import LiveSource
from ltsp.source.location import lasting
from ltsp.source.names import at_most_three, name_of, names
from ltsp.tree.name import printable


def kernel(operands: Sequence[str], options: KernelOptions, ltsp: LtspOptions, conf: Conf, report: Report) -> int:
    """Do it for each image, and return the worst exit status.

    Raises UsageError, and LtspError where there is but one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    if options.kernel_initrd == NO_KERNEL:
        raise UsageError("--kernel-initrd=none leaves ltsp kernel nothing to publish", "leave it out")
    if options.kernel_initrd:
        Rule.parse(options.kernel_initrd)
    arguments = list(dict.fromkeys(operands)) or _published_or_sources(store, options, report)
    check_rpi_image(options.rpi_image, [options.name] if options.name else map(_name_of, arguments), store)
    results: list[Mapping[str, object]] = []

    def publish(argument: str) -> int:
        results.append(_publish(argument, options, ltsp, store, report))
        return 0

    status = each(arguments, report, publish)
    report.result({"kernels": results})
    follow(ltsp, conf, options, report)
    return status


def _name_of(argument: str) -> str:
    """The image's name for an argument, which may have options or further sources behind it."""
    return name_of(argument.partition(",")[0])


def _published_or_sources(store: Store, options: KernelOptions, report: Report) -> Sequence[str]:
    """Where none is named, the images that clients boot; before there are any, what images could be made of."""
    published = store.names()
    if published:
        return at_most_three(published, all_images=options.all_images)
    every, warnings = names(store.base_dir, all_images=options.all_images)
    for warning in warnings:
        report.warn(warning)
    return every


def _publish(
    argument: str, options: KernelOptions, ltsp: LtspOptions, store: Store, report: Report
) -> Mapping[str, object]:
    exported = f"{ltsp.base_dir}/images/{argument}.img"
    # The modules of the clients are those of the image; a chroot of the same name may be newer by now.
    is_exported = "/" not in argument and os.path.exists(exported)
    name = options.name or (argument if is_exported else "")
    wanted = Wanted.of(options)
    disks = Wishes.of(options)
    source = find(
        exported if is_exported else argument,
        ltsp.base_dir,
        name=name,
        recompress=True,
        disks=disks,
        snapshots=options.snapshot,
        own_rule=options.kernel_initrd,
    )
    if is_exported and isinstance(source, LiveSource):
        source.see_that_clients_find_it()
    if not is_exported and (before := other_origin(store, source.name, lasting(argument, ltsp.base_dir))):
        report.warn(
            f"the image {source.name} was made from {printable(before)}, and its kernel is now that of "
            f"{printable(argument)}: run `ltsp image` for it, or give --name=OTHER to keep both"
        )
    with store.locked(source.name, options.wait) as held:
        boot_test = options.boot_transport
        if boot_test and not isinstance(held.state().image, Generation):
            report.note(f"{source.name} is no image that was made here: its kernel is published without a boot test")
            boot_test = ""
        outcome, found = publish_found(held, source, argument, options, wanted, report, boot_test=boot_test)
    if options.rpi_image == source.name:
        link_for_raspberries(store, source.name, report)
    _tell(outcome, source.name, report)
    return {
        "name": source.name,
        "published": isinstance(outcome, Published),
        "version": outcome.generation.version,
        "kernel": found.record(),
        "warnings": list(found.warnings),
    }


def _tell(outcome: Published | Unchanged, name: str, report: Report) -> None:
    version = outcome.generation.version
    if isinstance(outcome, Unchanged):
        report.say(f"unchanged {name}: version {version} has this kernel already")
    else:
        report.say(f"published {name}, version {version}, with this kernel")
        for line in let_go(outcome.collected):
            report.say(line)
