"""`ltsp kernel`: publish kernel and initrd of a source again, with the image that is published already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ltsp.apps.build import check_rpi_image, chosen_kernel, for_raspberries, link_for_raspberries
from ltsp.apps.client_initrd import Wanted, client_initrd
from ltsp.apps.each import each
from ltsp.apps.order import NO_KERNEL
from ltsp.apps.origin import other_origin
from ltsp.apps.reading import taken
from ltsp.apps.remains import let_go
from ltsp.apps.report import Report
from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.boot.kernel_rules import RULES, Rule
from ltsp.errors import UsageError
from ltsp.publish import manifest
from ltsp.publish.contents import Contents, Published, Staged, Unchanged
from ltsp.publish.generation import Generation
from ltsp.publish.held import Held
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign
from ltsp.publish.store import Store
from ltsp.settings import users
from ltsp.settings.applets import ImageOptions, KernelOptions, LtspOptions
from ltsp.source.disk_options import Wishes
from ltsp.source.find import find
from ltsp.source.live_source import LiveSource
from ltsp.source.location import lasting
from ltsp.source.names import at_most_three, name_of, names
from ltsp.source.source import Source
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import Selection, Take

_SYSTEM = ("bin", "etc", "lib*", "opt", "sbin", "usr")
"""Where modules, firmware and programs for the clients' initrd are, those of vendors too, and what tells the
distribution."""
_BULK = frozenset({"usr/share", "usr/include", "usr/games"})
"""Beside them, and never of use. In usr/src Gentoo has what the kernels in lib/modules are links to."""
_OF_DISKS = ("xfs", "btrfs")
"""File systems of virtual machines' disks, beside those that every client knows."""


def kernel(operands: Sequence[str], options: KernelOptions, ltsp: LtspOptions, report: Report) -> int:
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


def publish_found(
    held: Held,
    source: Source,
    argument: str,
    options: ImageOptions | KernelOptions,
    wanted: Wanted,
    report: Report,
    *,
    of: Generation | None = None,
    boot_test: str = "",
) -> tuple[Published | Unchanged, Kernel]:
    """A new version with the kernel that a source has and the image of another version, by default NAME.img's.

    `boot_test` is the transport by which it has to boot first; empty for none.
    """
    keep = Retention.of(options)
    own_rule = options.kernel_initrd or None
    state = held.state()
    shown = of or state.image
    faults = Faults(skip_unreadable=not users.is_root())  # what is vital is seen to
    if isinstance(shown, Foreign):
        wanted = replace(wanted, file_systems=_OF_DISKS)
    with taken(source, lambda: _around_kernels(own_rule), options.lock_timeout, faults, report) as tree:
        found = find_kernel(tree, source.name, own_rule)
        report.say(f"kernel    {found}")
        for warning in found.warnings:
            report.warn(warning)
        with report.step("making the clients' initrd"):
            client = client_initrd(tree, found, _codec(shown), source.name, wanted, state.current)
        client.tell(report)
        firmware = {} if of else for_raspberries(options, held.places.base_dir, source.name, tree)
        contents = Contents(
            manifest.Source(lasting(argument, held.places.base_dir), source.kind),
            chosen_kernel(found),
            {**client.boot_files(found), **firmware},
            warnings=(*found.warnings, *client.warnings),
        )
        if not boot_test:
            return held.publish_kernel(contents, of=of, keep=keep), found
        made = held.publish_kernel_later(contents, of=of)
    if isinstance(made, Staged):
        from ltsp.apps.boot_gate import publish_booted  # noqa: PLC0415 -- machines and servers, seldom asked for

        return publish_booted(held, made, boot_test, report, keep=keep), found
    return made, found


def _codec(shared: Generation | Foreign | None) -> str:
    """Of the image that the kernel is published with; empty where that is not known, or nothing is compressed."""
    image = shared.manifest.image if isinstance(shared, Generation) else None
    return image.codec if image and image.codec != "none" else ""


def _tell(outcome: Published | Unchanged, name: str, report: Report) -> None:
    version = outcome.generation.version
    if isinstance(outcome, Unchanged):
        report.say(f"unchanged {name}: version {version} has this kernel already")
    else:
        report.say(f"published {name}, version {version}, with this kernel")
        for line in let_go(outcome.collected):
            report.say(line)


def _around_kernels(own_rule: str | None) -> Selection:
    """All that a rule for kernels looks at and the clients' initrd is made of, and no more: nobody's home is read."""
    rules = (Rule.parse(own_rule), *RULES) if own_rule else RULES
    directories = {*_SYSTEM, *(top for rule in rules for top in rule.tops)}

    def take(path: str, directory: bool) -> Take:
        first, _, rest = path.partition("/")
        if not directory or (any(fnmatchcase(first, wanted) for wanted in directories) and path not in _BULK):
            return Take.ALL
        return Take.NOTHING if rest else Take.EMPTIED

    return take
