"""`ltsp kernel`: publish the kernel and initrd of a source again, with the image that is already published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from ltsp.boot.kernel_rules import KernelRule
from ltsp.build.batch import run_each, update_after_publish
from ltsp.build.client_initrd import NO_KERNEL, ClientInitrdRequest
from ltsp.build.publish_kernel import publish_source_kernel
from ltsp.build.raspberry import link_raspberry_files, missing_rpi_image_warning
from ltsp.build.request import find_changed_source
from ltsp.build.version_facts import removed_version_lines
from ltsp.errors import UsageError
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.publish.version import Version
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.image_options import KernelOptions
from ltsp.source.find import find_source
from ltsp.source.live.live_source import LiveSource
from ltsp.source.location import make_source_absolute
from ltsp.source.names import check_image_count, derive_name, list_source_names
from ltsp.source.spec import DiskOptions
from ltsp.tree.name import printable


def kernel(operands: Sequence[str], options: KernelOptions, ltsp: LtspOptions, conf: Conf, report: Report) -> int:
    """Publish the kernel of each image, and return the worst exit status.

    Raises UsageError, and LtspError if there is only one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    if options.kernel_initrd == NO_KERNEL:
        raise UsageError("--kernel-initrd=none: ltsp kernel has nothing to publish", "omit --kernel-initrd")
    if options.kernel_initrd:
        KernelRule.parse(options.kernel_initrd)
    arguments = list(dict.fromkeys(operands)) or _default_arguments(store, options, report)
    image_names = [options.name] if options.name else map(_derive_image_name, arguments)
    if warning := missing_rpi_image_warning(options.rpi_image, image_names, store):
        report.warn(warning)
    results: list[Mapping[str, object]] = []

    def publish(argument: str) -> int:
        with ExitStack() as keep:
            results.append(_publish(argument, options, ltsp, store, report, keep))
        return 0

    status = run_each(arguments, report, publish)
    report.result({"kernels": results})
    update_after_publish(ltsp, conf, options, report)
    return status


def _derive_image_name(argument: str) -> str:
    """The image's name for an argument, which options or further sources may follow."""
    return derive_name(argument.partition(",")[0])


def _default_arguments(store: Store, options: KernelOptions, report: Report) -> Sequence[str]:
    """The published images; if there are none, the sources in BASE_DIR."""
    published = store.names()
    if published:
        return check_image_count(published, all_images=options.all_images)
    every, warnings = list_source_names(store.base_dir, all_images=options.all_images)
    for warning in warnings:
        report.warn(warning)
    return every


def _publish(
    argument: str, options: KernelOptions, ltsp: LtspOptions, store: Store, report: Report, keep: ExitStack
) -> Mapping[str, object]:
    published_image = f"{ltsp.base_dir}/images/{argument}.img"
    # Clients use the modules of the image; a chroot of the same name may be newer.
    is_published = "/" not in argument and os.path.exists(published_image)
    name = options.name or (argument if is_published else "")
    initrd_request = ClientInitrdRequest.of(options)
    disks = DiskOptions.of(options)
    source = find_source(
        published_image if is_published else argument,
        ltsp.base_dir,
        name=name,
        recompress=True,
        disks=disks,
        snapshots=options.snapshot,
        user_rule=options.kernel_initrd,
        keep=keep,
    )
    if is_published and isinstance(source, LiveSource):
        source.check_clients_find_system()
    if not is_published and (
        recorded_source := find_changed_source(store, source.name, make_source_absolute(argument, ltsp.base_dir))
    ):
        report.warn(
            f"the image {source.name} was made from {printable(recorded_source)}, but its kernel now comes from "
            f"{printable(argument)}: run `ltsp image` for it, or give --name=OTHER to keep both"
        )
    with store.locked(source.name, options.wait) as locked:
        boot_test = options.boot_transport
        if boot_test and not isinstance(locked.state().image, Version):
            report.note(f"{source.name}.img was not made here: its kernel is published without a boot test")
            boot_test = ""
        outcome, chosen_kernel = publish_source_kernel(
            locked, source, argument, options, initrd_request, report, boot_test=boot_test
        )
    if options.rpi_image == source.name:
        link_raspberry_files(store, source.name, report)
    _print_outcome(outcome, source.name, report)
    return {
        "name": source.name,
        "published": isinstance(outcome, PublishedVersion),
        "version": outcome.version.id,
        "kernel": chosen_kernel.to_json(),
        "warnings": list(chosen_kernel.warnings),
    }


def _print_outcome(outcome: PublishedVersion | Unchanged, name: str, report: Report) -> None:
    version = outcome.version.id
    if isinstance(outcome, Unchanged):
        report.say(f"unchanged {name}: version {version} already has this kernel")
    else:
        report.say(f"published {name}, version {version}, with this kernel")
        for line in removed_version_lines(outcome.removed_versions):
            report.say(line)
