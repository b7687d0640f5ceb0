"""A version with the kernel of a source and the image of another version."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.boot.kernel_rules import RULES, Rule
from ltsp.build.client_initrd import Wanted, client_initrd
from ltsp.build.pipeline import chosen_kernel, for_raspberries
from ltsp.build.read_source import taken
from ltsp.host import users
from ltsp.publish import manifest
from ltsp.publish.contents import Contents, Published, Staged, Unchanged
from ltsp.publish.generation import Generation
from ltsp.publish.locked_image import Held
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, KernelOptions
from ltsp.source.location import lasting
from ltsp.source.source import Source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import Selection, Take

_SYSTEM = ("bin", "etc", "lib*", "opt", "sbin", "usr")
"""Where modules, firmware and programs for the clients' initrd are, those of vendors too, and what tells the
distribution."""
_BULK = frozenset({"usr/share", "usr/include", "usr/games"})
"""Beside them, and never of use. In usr/src Gentoo has what the kernels in lib/modules are links to."""
_OF_DISKS = ("xfs", "btrfs")
"""File systems of virtual machines' disks, beside those that every client knows."""


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
        from ltsp.build.boot_gate import publish_booted  # noqa: PLC0415 -- machines and servers, seldom asked for

        return publish_booted(held, made, boot_test, report, keep=keep), found
    return made, found


def _codec(shared: Generation | Foreign | None) -> str:
    """Of the image that the kernel is published with; empty where that is not known, or nothing is compressed."""
    image = shared.manifest.image if isinstance(shared, Generation) else None
    return image.codec if image and image.codec != "none" else ""


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
