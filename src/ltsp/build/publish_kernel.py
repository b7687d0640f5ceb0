"""A version with the kernel of a source and the image of another version."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.boot.kernel_rules import KERNEL_RULES, KernelRule
from ltsp.build.client_initrd import ClientInitrdRequest, make_client_initrd, to_kernel_facts
from ltsp.build.raspberry import find_raspberry_firmware
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

_NEEDED_DIRECTORIES = ("bin", "etc", "lib*", "opt", "sbin", "usr")
"""Directories with modules, firmware and programs for the clients' initrd, also from vendors, and with os-release."""
_SKIPPED_DIRECTORIES = frozenset({"usr/share", "usr/include", "usr/games"})
"""Large and not needed. Not usr/src: on Gentoo, links in lib/modules lead to kernels there."""
_DISK_FILE_SYSTEMS = ("xfs", "btrfs")
"""File systems of virtual machines' disks, besides those that every client supports."""


def publish_source_kernel(
    locked: LockedImage,
    source: Source,
    argument: str,
    options: ImageOptions | KernelOptions,
    initrd_request: ClientInitrdRequest,
    report: Report,
    *,
    of: Version | None = None,
    boot_test: str = "",
) -> tuple[PublishedVersion | Unchanged, Kernel]:
    """Publish a version with the kernel of a source and the image of another version, by default that of NAME.img.

    `boot_test` is the transport over which it must boot first; empty for no test.
    """
    retention = Retention.of(options)
    user_rule = options.kernel_initrd or None
    state = locked.state()
    published = of or state.image
    faults = Faults(skip_unreadable=not privilege.is_root())  # missing kernels and modules are errors anyway
    if isinstance(published, ForeignImage):
        initrd_request = replace(initrd_request, file_systems=_DISK_FILE_SYSTEMS)
    with open_tree(source, lambda: _make_kernel_selection(user_rule), options.lock_timeout, faults, report) as tree:
        kernel = find_kernel(tree, source.name, user_rule)
        report.say(f"kernel    {kernel}")
        for warning in kernel.warnings:
            report.warn(warning)
        with report.step("making the clients' initrd"):
            client = make_client_initrd(
                tree, kernel, _find_image_codec(published), source.name, initrd_request, state.current
            )
        client.report_to(report)
        firmware = {} if of else find_raspberry_firmware(options, locked.paths.base_dir, source.name, tree)
        contents = VersionContents(
            manifest.SourceFacts(make_source_absolute(argument, locked.paths.base_dir), source.kind),
            to_kernel_facts(kernel),
            {**client.collect_files(kernel), **firmware},
            warnings=(*kernel.warnings, *client.warnings),
        )
        if not boot_test:
            return locked.publish_kernel(contents, of=of, retention=retention), kernel
        outcome = locked.stage_kernel(contents, of=of)
    if isinstance(outcome, StagedVersion):
        from ltsp.build.boot_gate import boot_and_publish  # noqa: PLC0415 -- virtual machines and servers, rarely used

        return boot_and_publish(locked, outcome, boot_test, report, retention=retention), kernel
    return outcome, kernel


def _find_image_codec(published: Version | ForeignImage | None) -> str:
    """The codec of the image that the kernel is published with; empty if unknown or uncompressed."""
    image = published.manifest.image if isinstance(published, Version) else None
    return image.codec if image and image.codec != "none" else ""


def _make_kernel_selection(user_rule: str | None) -> Selection:
    """Only what kernel rules and the clients' initrd need: no home directory is read."""
    rules = (KernelRule.parse(user_rule), *KERNEL_RULES) if user_rule else KERNEL_RULES
    directories = {*_NEEDED_DIRECTORIES, *(top for rule in rules for top in rule.top_directories)}

    def select(path: str, directory: bool) -> Inclusion:
        first, _, rest = path.partition("/")
        if not directory or (
            any(fnmatchcase(first, pattern) for pattern in directories) and path not in _SKIPPED_DIRECTORIES
        ):
            return Inclusion.ALL
        return Inclusion.NOTHING if rest else Inclusion.EMPTIED

    return select
