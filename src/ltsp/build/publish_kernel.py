"""A version with the kernel of a source and the image of another version."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.boot.kernel_rules import KERNEL_RULES, KernelRule
from ltsp.build.client_initrd import ClientInitrdRequest, make_client_initrd, manifest_kernel
from ltsp.build.raspberry import raspberry_firmware
from ltsp.build.read_source import open_tree
from ltsp.host import privilege
from ltsp.publish import manifest
from ltsp.publish.gc import Retention
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.stage import StagedVersion, VersionContents
from ltsp.publish.state import ForeignImage
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.publish.version import Version
from ltsp.report.report import Report
from ltsp.settings.image_options import ImageOptions, KernelOptions
from ltsp.source.location import make_source_absolute
from ltsp.source.source import Source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import Inclusion, Selection

_SYSTEM = ("bin", "etc", "lib*", "opt", "sbin", "usr")
"""Directories with modules, firmware and programs for the clients' initrd, also from vendors, and with os-release."""
_BULK = frozenset({"usr/share", "usr/include", "usr/games"})
"""Large and not needed. Not usr/src: on Gentoo, links in lib/modules lead to kernels there."""
_DISK_FILE_SYSTEMS = ("xfs", "btrfs")
"""File systems of virtual machines' disks, besides those that every client supports."""


def publish_source_kernel(
    locked: LockedImage,
    source: Source,
    argument: str,
    options: ImageOptions | KernelOptions,
    wanted: ClientInitrdRequest,
    report: Report,
    *,
    of: Version | None = None,
    boot_test: str = "",
) -> tuple[PublishedVersion | Unchanged, Kernel]:
    """Publish a version with the kernel of a source and the image of another version, by default that of NAME.img.

    `boot_test` is the transport over which it must boot first; empty for no test.
    """
    keep = Retention.of(options)
    own_rule = options.kernel_initrd or None
    state = locked.state()
    shown = of or state.image
    faults = Faults(skip_unreadable=not privilege.is_root())  # missing kernels and modules are errors anyway
    if isinstance(shown, ForeignImage):
        wanted = replace(wanted, file_systems=_DISK_FILE_SYSTEMS)
    with open_tree(source, lambda: _kernel_selection(own_rule), options.lock_timeout, faults, report) as tree:
        found = find_kernel(tree, source.name, own_rule)
        report.say(f"kernel    {found}")
        for warning in found.warnings:
            report.warn(warning)
        with report.step("making the clients' initrd"):
            client = make_client_initrd(tree, found, _image_codec(shown), source.name, wanted, state.current)
        client.report_to(report)
        firmware = {} if of else raspberry_firmware(options, locked.paths.base_dir, source.name, tree)
        contents = VersionContents(
            manifest.SourceFacts(make_source_absolute(argument, locked.paths.base_dir), source.kind),
            manifest_kernel(found),
            {**client.with_kernel(found), **firmware},
            warnings=(*found.warnings, *client.warnings),
        )
        if not boot_test:
            return locked.publish_kernel(contents, of=of, keep=keep), found
        made = locked.publish_kernel_later(contents, of=of)
    if isinstance(made, StagedVersion):
        from ltsp.build.boot_gate import boot_and_publish  # noqa: PLC0415 -- virtual machines and servers, rarely used

        return boot_and_publish(locked, made, boot_test, report, keep=keep), found
    return made, found


def _image_codec(shared: Version | ForeignImage | None) -> str:
    """The codec of the image that the kernel is published with; empty if unknown or uncompressed."""
    image = shared.manifest.image if isinstance(shared, Version) else None
    return image.codec if image and image.codec != "none" else ""


def _kernel_selection(own_rule: str | None) -> Selection:
    """Only what kernel rules and the clients' initrd need: no home directory is read."""
    rules = (KernelRule.parse(own_rule), *KERNEL_RULES) if own_rule else KERNEL_RULES
    directories = {*_SYSTEM, *(top for rule in rules for top in rule.top_directories)}

    def take(path: str, directory: bool) -> Inclusion:
        first, _, rest = path.partition("/")
        if not directory or (any(fnmatchcase(first, pattern) for pattern in directories) and path not in _BULK):
            return Inclusion.ALL
        return Inclusion.NOTHING if rest else Inclusion.EMPTIED

    return take
